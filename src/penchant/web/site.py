"""The local site: parts with their own routes under one navigation, one style and one guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from penchant.errors import PenchantError
from penchant.reporting.page import page_environment
from penchant.web.guard import Guard

STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Part:
    """A part of the site.

    Attributes:
        title: Its name in the navigation.
        path: Where it begins, such as "/runs".
        routes: Its pages, with whole paths.
    """

    title: str
    path: str
    routes: Sequence[BaseRoute]


def make_site(parts: Sequence[Part], *, token: str, port: int) -> ASGIApp:
    """Return the application: the parts, the style and scripts under /static, and nothing without the guard.

    The guard is outermost, so that the page of a defect has its headers, too.

    Args:
        parts: In the order of the navigation; the first is the start page.
        token: See `penchant.web.guard.new_token`.
        port: Where the server will listen.
    """

    async def start(request: Request) -> Response:
        return RedirectResponse(parts[0].path, status_code=307)

    routes = [
        Route("/", start),
        Mount("/static", StaticFiles(directory=STATIC)),
        *(route for part in parts for route in part.routes),
    ]
    site = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _not_found, PenchantError: _explained, Exception: _defect},
    )
    site.state.parts = tuple(parts)
    return Guard(site, token=token, port=port)


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page: a template of `web/templates` that extends base.html.j2.

    All values pass the gate of `penchant.reporting.page`: control characters are made visible, text is escaped.
    """
    parts: Sequence[Part] = getattr(request.app.state, "parts", ())
    here = request.url.path
    html = _environment().get_template(template).render(parts=parts, here=here, **values)
    return HTMLResponse(html, status_code=status)


async def form_of(request: Request) -> Mapping[str, str]:
    """Return what a form of ours posted, one value a name.

    Raises:
        HTTPException: 400, for what no form of ours sends.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(400, "This is no form.")
    try:
        text = (await request.body()).decode("ascii")
        found = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=100
        )
    except ValueError as error:
        raise HTTPException(400, "This form cannot be read.") from error
    if len(dict(found)) < len(found):
        raise HTTPException(400, "A field stands twice in this form.")
    return dict(found)


@cache
def _environment() -> jinja2.Environment:
    return page_environment("penchant.web")


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "This page has a defect."
    return render(request, "message.html.j2", status=status, title=f"{status}", message=detail, fix="")


async def _explained(request: Request, error: Exception) -> Response:
    assert isinstance(error, PenchantError)
    message = f"{error.where}: {error.what}" if error.where else error.what
    return render(
        request, "message.html.j2", status=422, title="That did not work", message=message, fix=error.fix
    )


async def _defect(request: Request, error: Exception) -> Response:
    return render(
        request,
        "message.html.j2",
        status=500,
        title="A defect of Penchant",
        message=f"{type(error).__name__}: {error}",
        fix="Please report it. The terminal shows where it happened; nothing that was saved is lost.",
    )
