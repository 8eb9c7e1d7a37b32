"""Runs in a real browser: a page that follows a run, steps that are pointed at, text that stays text."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.made_runs import lines_of, texts_of
from tests.pages import Visitor, running
from tests.written_runs import write_lines, write_object, write_run, write_status

from penchant.evaluation.token_scores import ScoredPair, ScoredToken
from penchant.web import runs as pages
from penchant.web.run_steps import RunWork
from penchant.web.runs import runs_part

HOSTILE = '<img src="https://evil.example/x" onerror="document.title=1"><script>document.title=2</script>'


def tokens(run: Path, name: str, say: Callable[[str], None]) -> ScoredPair:
    say("Scoring")
    return ScoredPair((ScoredToken(HOSTILE, -1.0, -4.0),), (ScoredToken("rain", -3.0, -1.0),))


def texts(run: Path) -> Any:
    return texts_of(chosen=lambda number: f"{HOSTILE} {number}"), ""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_LOOK", 150)
    monkeypatch.setattr(pages, "_LOOK_AT_LIST", 150)


def test_a_page_follows_a_run_and_keeps_what_its_reader_does(
    tmp_path: Path, visit: Callable[..., Visitor]
) -> None:
    steps, pairs = lines_of()
    run = write_run(tmp_path / "live", steps=steps[:12], pairs=pairs, state="running")
    with running([runs_part(tmp_path, RunWork(texts, tokens))]) as origin:
        visitor = visit(origin, viewport={"width": 390, "height": 700}, color_scheme="dark")
        page = visitor.go("/runs/live")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("#figures-1 summary").focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(400)
        top = page.evaluate("scrollY")
        assert top > 0
        write_lines(run / "metrics.jsonl", steps[12:20], more=True)
        page.wait_for_selector("progress[value='20']")
        assert page.evaluate("document.querySelector('#figures-1').open")
        assert page.evaluate("document.activeElement.closest('details').id") == "figures-1"
        assert page.evaluate("scrollY") == top
        write_lines(run / "metrics.jsonl", steps[20:], more=True)
        write_status(run)
        page.wait_for_selector("[data-ended]")
        assert "no longer updated" in page.inner_text("#live-note")
        assert "40 / 40" in page.inner_text("#run-now")


def test_a_step_is_pointed_at_and_its_tokens_are_asked_for_by_keyboard(
    tmp_path: Path, visit: Callable[..., Visitor]
) -> None:
    run = write_run(tmp_path / "it's <b>", config=f"a: '{HOSTILE}'\n")
    write_object(run / "eval" / "training.json", {"findings": [{"name": HOSTILE, "summary": HOSTILE}]})
    (run / "model").mkdir()
    with running([runs_part(tmp_path, RunWork(texts, tokens))]) as origin:
        visitor = visit(origin)
        page = visitor.go("/runs")
        page.check("input[type=checkbox]")
        page.wait_for_timeout(400)  # the table was put in anew
        assert page.is_checked("input[type=checkbox]")
        page.click("th.name a")
        assert HOSTILE in page.inner_text("#run-findings")
        chart = page.locator("svg[data-steps]").first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        left, right, first, last = map(float, chart.get_attribute("data-steps").split())
        share = left + (17 - first) / (last - first) * (right - left)
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_selector("h1:text-is('Step 17')")
        page.locator("table.pairs a").first.press("Enter")
        page.wait_for_selector("mark.own")
        assert HOSTILE in page.inner_text("#pair-text")
        page.locator("button.primary").press("Enter")
        page.wait_for_selector(".token.up4")
        assert page.locator(".sides .token, .tokens .token.up4").first.inner_text() == HOSTILE
        assert page.title().startswith("Pair row-")


@pytest.mark.slow
def test_a_page_follows_a_run_that_trains_in_another_process(
    tmp_path: Path, visit: Callable[..., Visitor]
) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from tests.tiny import pair_rows, save_tiny, tiny_config, tiny_llama, write_rows;"
        "from penchant.workflow.train import train_run;"
        f"folder = Path({str(tmp_path)!r});"
        "start = save_tiny(folder / 'start', tiny_llama(layers=2));"
        "data = write_rows(folder / 'rows.jsonl', pair_rows(200));"
        "config = tiny_config(start, train={'batch_pairs': 2, 'epochs': 8.0});"
        "train_run(config, data, folder / 'runs' / 'live')"
    )
    (tmp_path / "runs").mkdir()
    with running([runs_part(tmp_path / "runs", RunWork(texts, tokens))]) as origin:
        page = visit(origin).go("/runs")
        assert "No run yet" in page.inner_text("main")
        training = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
        try:
            page.wait_for_selector("th.name a", timeout=120_000)
            page.click("th.name a")
            page.wait_for_selector("progress", timeout=120_000)
            seen = set()
            while not page.locator("[data-ended]").count():
                assert training.poll() in (None, 0)
                seen.add(page.evaluate("document.querySelector('progress')?.value"))
                time.sleep(0.1)
        finally:
            training.kill()
            training.wait()
        assert len(seen) > 3
        assert "800 / 800" in page.inner_text("#run-now")
        assert page.locator("#run-charts svg").count() >= 5
