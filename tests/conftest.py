"""Conditions of every test: one torch thread, no network, and in CI the same random examples each time."""

import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from tests.warm import Warm

# Set before any test module imports torch or transformers; subprocesses inherit them.
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "Agg",
    }
)

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

CACHE_OF_THE_USER = os.environ.get("PENCHANT_CACHE")
LOOPBACK = ("127.", "::1", "localhost")


def pytest_runtest_setup() -> None:
    """Keep torch, once some test has imported it, to one thread."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def cache_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the fixtures of a module store out of the user's cache."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PENCHANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="module")
def frozen_imports() -> None:
    """Keep what is imported out of garbage collection, in which a small run would spend half its time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def cache_of_the_test(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give every test a cache of its own, except those that take the bundled model from the user's."""
    if request.node.get_closest_marker("bundled") is None:
        monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path_factory.mktemp("cache")))
    elif CACHE_OF_THE_USER is None:
        monkeypatch.delenv("PENCHANT_CACHE")
    else:
        monkeypatch.setenv("PENCHANT_CACHE", CACHE_OF_THE_USER)


def _is_remote(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    return isinstance(host, str) and host != "" and not host.startswith(LOOPBACK)


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the socket method, refusing any address that is neither loopback nor a unix socket."""

    def guarded(self: socket.socket, *args: Any) -> Any:
        address = args[-1]  # connect(address), sendto(data, address), sendto(data, flags, address)
        if self.family in (socket.AF_INET, socket.AF_INET6) and _is_remote(address[0]):
            raise RuntimeError(f"a test tried to reach {address[0]}; tests use no network")
        return method(self, *args)

    return guarded


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections and name look-ups that would leave this machine."""
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, _refusing(getattr(socket.socket, name)))
    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_remote(host) and host != socket.gethostname():
            raise RuntimeError(f"a test tried to look up {host}; tests use no network")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The real command, forked from a process that has imported it: seconds less for each."""
    process = Warm(tmp_path_factory.mktemp("printed"))
    yield process
    process.close()
