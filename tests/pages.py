"""The local pages as a browser meets them: a real server on loopback, a real Chromium, nothing else reachable."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import uvicorn

from penchant.web.guard import TOKEN
from penchant.web.serve import HOST, listening
from penchant.web.site import Part, make_site

SECRET = "a-token-of-the-tests"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def running(parts: Sequence[Part]) -> Iterator[str]:
    """Serve parts from a thread and give the origin, such as http://127.0.0.1:4321."""
    with listening(0) as listener:
        port = listener.getsockname()[1]
        site = make_site(parts, token=SECRET, port=port)
        server = uvicorn.Server(uvicorn.Config(site, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://{HOST}:{port}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def client(origin: str, *, known: bool = True) -> Iterator[httpx2.Client]:
    """A client that posts as a page of ours does; one that is not `known` has no token."""
    with httpx2.Client(base_url=origin, headers={"Origin": origin}, timeout=30) as found:
        if known:
            assert found.get("/static/site.css", params={TOKEN: SECRET}).status_code == 303
        yield found


class Visitor:
    """A tab that was let in, with what it logged and whom it tried to reach.

    Args:
        page: Playwright's.
        origin: Where the site is.
    """

    def __init__(self, page: Any, origin: str) -> None:
        self.page, self.origin = page, origin
        self.strangers: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self._look(request.url))
        page.on("console", lambda told: self.errors.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def go(self, path: str) -> Any:
        """Open a page of the site and return Playwright's page."""
        joint = "&" if "?" in path else "?"
        self.page.goto(f"{self.origin}{path}{joint}{TOKEN}={SECRET}")
        return self.page

    def _look(self, url: str) -> None:
        if not url.startswith((self.origin, "data:", "blob:")):
            self.strangers.append(url)
