"""Who may speak to the local pages: this machine's browser, from a page of our own, with the token.

A page that listens on loopback can be reached by every web site that the browser shows, and by whatever name an
attacker lets point to 127.0.0.1. So a request must name a host of ours, a POST must come from a page of ours, and
both need a token that only who started the command has seen. GET never changes anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
MOST_POSTED = 1 << 20  # bytes
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser hides the origin of our own forms, too
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_READING, _CHANGING = ("GET", "HEAD"), ("POST",)


class Guard:
    """Lets only requests through that come from the browser of who started the command.

    Without the token the answer is 401, with a host that is not ours 421, from another origin 403, for a body of
    more than a mebibyte or of unsaid length 413, for another method than GET, HEAD and POST 405. The token comes
    once in the query; then it is a cookie that scripts cannot read and other sites do not send.

    Args:
        app: What is guarded.
        token: The secret; see `new_token`.
        port: Where the server listens.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
        self._cookie = f"penchant-{port}"  # cookies do not know ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("these pages use no websockets")
        refusal = self._refusal(Request(scope))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that does not get through, or that brings the token."""
        stranger = self._stranger(request)
        if stranger:
            return stranger
        if request.method in _READING and TOKEN in request.query_params:
            return self._welcome(request)
        if not _same(request.cookies.get(self._cookie, ""), self._token):
            return _refused(401, "Open the address that the command printed; it holds a token.")
        if request.method in _CHANGING and not _short(request.headers):
            return _refused(413, "That is more than a form of ours sends.")
        return None

    def _stranger(self, request: Request) -> Response | None:
        headers = request.headers
        if len(headers.getlist("host")) != 1 or headers["host"] not in self._hosts:
            return _refused(421, "This server answers to 127.0.0.1 alone.")
        if request.method not in (*_READING, *_CHANGING):
            return _refused(405, "Pages are read by GET and changed by POST.")
        if request.method in _CHANGING and not _from_own_page(headers):
            return _refused(403, "This came from another site.")
        return None

    def _welcome(self, request: Request) -> Response:
        """Take the token out of the address, where history and screens would show it, into a cookie."""
        if not _same(request.query_params[TOKEN], self._token):
            return _refused(401, "This token is not the one that the command printed.")
        rest = [(name, value) for name, value in parse_qsl(request.url.query) if name != TOKEN]
        # one slash: two would be another host
        target = "/" + request.scope["path"].lstrip("/") + (f"?{urlencode(rest)}" if rest else "")
        response = RedirectResponse(target, status_code=303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response


def new_token() -> str:
    """Return a fresh secret of 256 bits, fit for an address."""
    return secrets.token_urlsafe(32)


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "replace"), other.encode())


def _from_own_page(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site", "same-origin")  # old browsers do not say
    return headers.get("origin") == f"http://{headers['host']}" and site in ("same-origin", "none")


def _short(headers: Headers) -> bool:
    length: Sequence[str] = headers.getlist("content-length")
    return len(length) == 1 and length[0].isdecimal() and int(length[0]) <= MOST_POSTED


def _refused(status: int, why: str) -> Response:
    return PlainTextResponse(why + "\n", status_code=status)
