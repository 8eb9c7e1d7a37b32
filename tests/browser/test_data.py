"""The data browser in a real browser: hostile rows do nothing, and the keyboard alone is enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.browsed import HOSTILE, hostile_rows, rows_of, write_rows
from tests.pages import Visitor, running

from penchant.web.data_builds import Builds, NotReadyError
from penchant.web.data_pages import data_part
from penchant.web.data_sources import named_source


def made(path: Path) -> str:
    """The address of a file whose index is there."""
    source, builds = named_source(path), Builds()
    while True:
        try:
            with builds.open(source):
                return f"/data/{source.key}"
        except NotReadyError:
            continue


def test_hostile_rows_do_nothing(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    path = write_rows(tmp_path / "evil.jsonl", [*hostile_rows(), *rows_of(120)])
    base = made(path)
    with running([data_part([path])]) as origin:
        visitor = visit(origin, viewport={"width": 390, "height": 800}, color_scheme="dark")
        page = visitor.go(f"{base}?q=onerror")
        fits = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(fits)
        assert page.title() == "evil.jsonl · Penchant"
        assert "<script>document" in page.inner_text("table.data-rows")
        for number in (1, 2, 3):
            visitor.go(f"{base}/rows/{number}")
            assert page.title().endswith("evil.jsonl · Penchant")
            assert page.locator("main iframe, main img, main script, main style, main base").count() == 0
            assert page.locator("main a:not([href^='/data'])").count() == 0
            assert page.evaluate(fits)
        assert "⟨U+202E⟩" in visitor.go(f"{base}/rows/1").inner_text("main")


def test_keys_alone_reach_everything(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [*hostile_rows(), *rows_of(120)])
    base = made(path)
    with running([data_part([path], runs=tmp_path)]) as origin:
        page = visit(origin).go(base)
        page.keyboard.press("/")
        page.keyboard.type("yes j")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.keyboard.press("Control+a")
        page.keyboard.type("yes")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{origin}{base}?q=yes*")
        page.keyboard.press("n")
        page.wait_for_url("**page=2")
        page.keyboard.press("p")
        page.wait_for_url(lambda url: "page=" not in url)
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("k")
        second = page.locator("a.open-row").nth(1)
        assert second.evaluate("it => it === document.activeElement")
        href = second.get_attribute("href")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{href}")
        page.keyboard.press("j")
        page.wait_for_url("**/rows/6?q=yes")
        page.focus("#reason")
        page.keyboard.type(f"jn/ {HOSTILE}"[:300])  # keys of ours are text here
        page.keyboard.press("Enter")
        page.wait_for_url("**#by-hand")
        assert "You left it out: jn/ <img" in page.inner_text("main")
        assert page.title().endswith("rows.jsonl · Penchant")
        page.keyboard.press("u")
        page.wait_for_url(f"{origin}{base}?q=yes")
        page.wait_for_load_state("load")
        assert "1 left out by you" in page.inner_text("main")


@pytest.mark.slow
def test_it_works_with_scripts_off(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", rows_of(120))
    base = made(path)
    with running([data_part([path], runs=tmp_path)]) as origin:
        page = visit(origin, java_script_enabled=False).go(base)
        page.fill("#q", '"yes apple"')
        page.click("text=Filters and order")
        page.select_option("#sort", "alike")
        page.click("button:has-text('Apply')")
        assert "q=%22yes+apple%22" in page.url
        assert "sort=alike" in page.url
        page.locator("a.open-row").first.click()
        page.fill("#reason", "no good")
        page.click("text=Leave this row out")
        page.click("text=Undo: put it back")
        page.wait_for_selector("#reason")
        page.wait_for_load_state("load")  # before the server goes
