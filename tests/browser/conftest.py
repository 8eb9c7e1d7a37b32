"""A headless Chromium for the tests of pages; without one they are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.pages import CHROMIUM, Visitor


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser; it is the system's, and nothing is downloaded."""
    if CHROMIUM is None:
        # it is no Python package that the environment could install; tests/unit checks markup, policy and
        # refusals of the same pages without a browser
        pytest.skip("there is no Chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visitor]]:
    """Open a tab at a site by its origin; at the end nothing was asked of others, and nothing went wrong in it.

    Options are Playwright's of a context, such as `color_scheme="dark"` or `viewport`.
    """
    contexts, visitors = [], []

    def opened(origin: str, **options: Any) -> Visitor:
        contexts.append(chromium.new_context(**options))
        visitors.append(Visitor(contexts[-1].new_page(), origin))
        return visitors[-1]

    yield opened
    for context in contexts:
        context.close()
    assert [url for visitor in visitors for url in visitor.strangers] == []
    assert [error for visitor in visitors for error in visitor.errors] == []
