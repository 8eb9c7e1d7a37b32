"""The page of a sweep: what the figures say, and nothing that a name could make of it."""

from __future__ import annotations

import copy
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.html_page import Page

from penchant.reporting.charts import Chart
from penchant.reporting.sweep_charts import FrontierPoint, frontier_chart
from penchant.reporting.sweep_page import cost_rows, judgement_rows, on_test_pairs, render_sweep_page, saving

PARTS = ("setup", "tokens", "reference", "trunk", "training", "evaluation")


def run(name: str, folder: str, accuracy: float, kl: float, seconds: list[float], alone: float) -> dict[str, Any]:
    return {
        "name": name,
        "folder": folder,
        "settings": {},
        "state": "finished",
        "pairs": 40,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.1, accuracy + 0.1],
        "kl": kl,
        "kl_interval": [kl - 0.2, kl + 0.2],
        "kl_per_token": kl / 40,
        "kl_per_token_interval": [kl / 50, kl / 30],
        "chosen_logps_fell_fraction": 0.25,
        "on_frontier": accuracy != 0.55,
        "seconds": dict(zip(PARTS, seconds, strict=True)),
        "alone_seconds": alone,
    }


@pytest.fixture
def sweep() -> dict[str, Any]:
    runs = [
        run("beta=0.05", "1-a", 0.7, 3.0, [1, 2, 30, 20, 50, 10], 113),
        run("beta=0.1", "2-b", 0.68, 1.5, [1, 0, 2, 0, 50, 5], 113),
        run("beta=0.2", "3-c", 0.55, 12.0, [1, 0, 2, 0, 49, 5], 112),
        {
            "name": "beta=9",
            "folder": "4-d",
            "settings": {},
            "state": "failed",
            "reason": "no number",
            "exit_code": 10,
        },
    ]
    winner = {"name": "beta=0.1", "folder": "2-b", "why": "It is near."}
    test = {**run("", "", 0.66, 1.4, [0] * 6, 0), "pairs": 100, "answer_tokens": 31.5}
    return {
        "runs": runs,
        "winner": {**winner, "test": test},
        "seconds": {"together": 228.0, "alone": 338.0},
    }


def test_tables_and_sentences_say_what_the_figures_say(sweep: dict[str, Any]) -> None:
    assert judgement_rows(sweep) == [
        (
            "beta=0.05",
            "70.0% [60.0, 80.0]",
            "3.000 [2.800, 3.200]",
            "0.075 [0.060, 0.100]",
            "25.0%",
            "on the frontier",
        ),
        ("beta=0.1", "68.0% [58.0, 78.0]", "1.500 [1.300, 1.700]", "0.037 [0.030, 0.050]", "25.0%", "winner"),
        ("beta=0.2", "55.0% [45.0, 65.0]", "12.0 [11.8, 12.2]", "0.300 [0.240, 0.400]", "25.0%", ""),
    ]
    first, *_, last = cost_rows(sweep)
    assert first == ("beta=0.05", "1.0", "2.0", "30.0", "20.0", "50.0", "10.0", "113.0", "113.0")
    assert last == ("all", "3.0", "2.0", "34.0", "20.0", "149.0", "20.0", "228.0", "338.0")
    assert saving(sweep).endswith("5 min 38 s: 1 min 50 s less (32.5%).")
    assert on_test_pairs(sweep).startswith(
        "On 100 test pairs, on which nothing was chosen: accuracy 66.0% [56.0, 76.0]"
    )


def test_the_page_holds_all_of_it(sweep: dict[str, Any]) -> None:
    page = render_sweep_page(sweep, name="betas")
    shown = Page(page)
    for words in ("✓ Winner: beta=0.1", "It is near.", "3 of 4 runs finished, 1 failed", "beta=9: no number"):
        assert words in shown.words
    assert saving(sweep) in shown.words
    assert on_test_pairs(sweep) in shown.words
    assert render_sweep_page(sweep, name="betas") == page


def test_a_sweep_that_has_just_begun_has_a_page(sweep: dict[str, Any]) -> None:
    pending = {"runs": [{"name": "a", "folder": "1-a", "settings": {}, "state": "pending"}], "winner": None}
    page = Page(render_sweep_page({**pending, "seconds": {"together": 0, "alone": 0}}, name="new"))
    assert "No run is finished yet" in page.words
    del sweep["winner"]["test"]
    assert "Ahead so far: beta=0.1" in Page(render_sweep_page(sweep, name="halfway")).words


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "$\\frac{1}{2}$", '"><img src=x>', "a\u202eb\x1b[2J"]
)
def test_no_name_becomes_markup(sweep: dict[str, Any], hostile: str) -> None:
    clean = Page(render_sweep_page(sweep, name="x"))
    named = copy.deepcopy(sweep)
    for place in (named["runs"][0], named["runs"][3], named["winner"]):
        place["name"] = hostile
    named["runs"][3]["reason"] = named["winner"]["why"] = hostile
    text = render_sweep_page(named, name=hostile)
    page = Page(text)
    assert sorted(page.tags) == sorted(clean.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in text
    assert "\x1b" not in text
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in (value or ""))
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'",
        policy or "",
    )


def point(name: str, accuracy: float, kl: float, *, first: bool, wins: bool) -> FrontierPoint:
    return FrontierPoint(name, accuracy, (accuracy - 0.1, accuracy + 0.1), kl, (kl - 0.1, kl + 0.1), first, wins)


def chart() -> Chart:
    return frontier_chart(
        [
            point("near", 0.6, 0.5, first=True, wins=True),
            point("far", 0.7, 2.0, first=True, wins=False),
            point("$x$ worse", 0.6, 3.0, first=False, wins=False),
        ]
    )


def test_the_frontier_names_its_points_and_has_a_text_for_those_who_do_not_see_it() -> None:
    root = ElementTree.fromstring(chart().svg)
    texts = [element.text for element in root.iter("text")]
    assert {"near", "far", "$x$ worse"} <= set(texts)
    assert not [text for text in texts if text and text.startswith("@")]
    description = root.find("desc")
    assert description is not None
    assert description.text is not None
    assert "far: accuracy 70.0% (60.0% to 80.0%), KL 2 (1.9 to 2.1) on the frontier" in description.text
    assert [row[0::5] for row in chart().rows] == [
        ("near", "winner"), ("far", "on the frontier"), ("$x$ worse", ""),
    ]  # fmt: skip


def test_many_points_are_drawn_and_the_first_are_named() -> None:
    points = [point(f"run {n}", 0.5 + n / 100, 1.0 + n, first=True, wins=n == 3) for n in range(20)]
    texts = {element.text for element in ElementTree.fromstring(frontier_chart(points).svg).iter("text")}
    assert {"run 0", "run 11"} <= texts
    assert "run 12" not in texts
    assert len(frontier_chart(points).rows) == 20
