"""The server of the local pages: on loopback, in this process, until Ctrl+C."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import uvicorn

from penchant.errors import UsageError
from penchant.web.guard import TOKEN, new_token
from penchant.web.site import Part, make_site

HOST = "127.0.0.1"


def serve(parts: Sequence[Part], *, port: int = 0, ready: Callable[[str], None]) -> None:
    """Serve the parts until Ctrl+C or SIGTERM.

    Args:
        parts: Of the site; the first is the start page.
        port: Where to listen; 0 = wherever is free.
        ready: Told the address with its token, once it can be opened.

    Raises:
        UsageError: Somebody listens on the port already.
    """
    token = new_token()
    with listening(port) as listener:
        bound = listener.getsockname()[1]
        site = make_site(parts, token=token, port=bound)
        config = uvicorn.Config(
            site, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
        )
        ready(f"http://{HOST}:{bound}/?{TOKEN}={token}")
        uvicorn.Server(config).run(sockets=[listener])


def listening(port: int) -> socket.socket:
    """Return a socket that listens on loopback; port 0 = wherever is free.

    Raises:
        UsageError: Somebody listens there already.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {HOST}:{port}: {error}", where="--port", fix="Choose another port, or none."
        ) from error
    listener.listen(128)  # so that whoever opens the address waits for the server instead of being refused
    return listener
