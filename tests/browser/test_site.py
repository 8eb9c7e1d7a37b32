"""The frame of all local pages in a real browser."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.pages import Visitor, running

from penchant.web.site import Part, render

HOSTILE = (
    '<img src=x onerror="document.title=1"><script>document.title=2</script><style>main{display:none}</style>'
)


async def shown(request: Request) -> Response:
    return render(request, "message.html.j2", title="Here", message=HOSTILE, fix="")


PARTS = [
    Part("Things", "/things", [Route("/things", shown)]),
    Part("Others", "/others", [Route("/others", shown)]),
]


def test_a_page_is_styled_reached_by_keyboard_and_runs_nothing_of_its_text(visit: Callable[..., Visitor]) -> None:
    with running(PARTS) as origin:
        visitor = visit(origin, viewport={"width": 390, "height": 800}, color_scheme="dark")
        page = visitor.go("/things")
        assert page.url == f"{origin}/things"  # the token is no longer there to be seen
        assert page.title() == "Here · Penchant"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert HOSTILE in page.inner_text("main")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{origin}/others")
        assert page.locator("nav a[aria-current]").inner_text() == "Others"
