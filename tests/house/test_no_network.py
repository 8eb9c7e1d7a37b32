"""The guard around the tests: remote addresses are refused, loopback works."""

import socket

import pytest


def test_a_remote_address_is_refused() -> None:
    with socket.socket() as connection, pytest.raises(RuntimeError, match="no network"):
        connection.connect(("192.0.2.1", 80))


def test_a_remote_name_is_not_looked_up() -> None:
    with pytest.raises(RuntimeError, match="no network"):
        socket.create_connection(("example.org", 80), timeout=1)


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()[:2], timeout=5) as client:
            accepted, address = server.accept()
            accepted.close()
            assert address == client.getsockname()
