"""The report in a real browser, from a file: nothing runs, nothing is asked for, and it can be read on a phone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.pages import Visitor
from tests.unit.reporting.test_report import write_everything
from tests.unit.workflow.test_report_runs import make_run

from penchant.reporting.report import write_report
from penchant.reporting.report_runs import write_runs_report

HOSTILE = (
    '"></title></style></svg><script>document.title="owned"</script><img src="http://example.org/x" onerror='
    '"document.title=1"><style>main{display:none}</style><iframe src="http://example.org/"></iframe>{{ 7 * 7 }}'
)
OUTLINE = """() => [...document.querySelectorAll("h1, h2, h3, h4")].map(one => Number(one.tagName[1]))"""
UNNAMED = """() => [...document.querySelectorAll("table")].filter(one => !one.caption?.innerText.trim()).length
  + [...document.querySelectorAll("svg")].filter(one => !one.querySelector("title")).length"""


def look(visit: Callable[..., Visitor], file: Path) -> Visitor:
    """What must be true of every page that is one file, at a desk in the light and on a phone in the dark."""
    visitor = None
    for width, scheme in ((1280, "light"), (390, "dark")):
        visitor = visit("file://", viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = visitor.page
        page.goto(file.as_uri())
        assert "owned" not in page.title()
        assert page.evaluate("getComputedStyle(document.querySelector('main')).display") != "none"
        assert page.evaluate("document.querySelectorAll('script, img, iframe').length") == 0
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        levels = page.evaluate(OUTLINE)
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), levels
        assert page.evaluate(UNNAMED) == 0
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    assert visitor is not None
    return visitor


@pytest.mark.slow
def test_a_hostile_run_is_a_page_that_runs_nothing_and_reads_well(
    tmp_path: Path, visit: Callable[..., Visitor]
) -> None:
    run = write_everything(tmp_path / "run", hostile=HOSTILE)
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n', encoding="utf-8")
    visitor = look(visit, write_report(run))
    page = visitor.page
    assert "</style></svg><script>" in page.inner_text("main")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#verdict"
    page.keyboard.press("Enter")
    assert page.url.endswith("#verdict")
    page.emulate_media(media="print")
    shut = page.evaluate(
        "() => { const one = document.querySelector('#reproduce details'); one.open = false; "
        "return one.querySelector('pre').getBoundingClientRect().height }"
    )
    assert shut > 0  # printed, what is folded is open


@pytest.mark.slow
def test_several_hostile_runs_are_a_page_that_runs_nothing(tmp_path: Path, visit: Callable[..., Visitor]) -> None:
    runs = [make_run(tmp_path / name, passes=4, hostile=HOSTILE) for name in ("a<b onclick=x>", "b")]
    visitor = look(visit, write_runs_report(runs, tmp_path / "page.html", why_not=HOSTILE))
    assert "a<b onclick=x>" in visitor.page.inner_text("h1 + p")
