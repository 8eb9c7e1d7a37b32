"""Charts: the same bytes, accessible names, a table that agrees, nothing that a strict page forbids."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import pytest

from penchant.reporting.charts import Bar, fraction_bars
from penchant.reporting.curves import CURVES, MAX_POINTS, Event, learning_curves, smoothed
from penchant.reporting.figures import plain_number


def steps(count: int) -> list[dict[str, object]]:
    keys = [key for curve in CURVES for key in curve.series if "desirable" not in key]
    return [{"step": step, **dict.fromkeys(keys, step / count)} for step in range(1, count + 1)]


def test_every_curve_is_drawn_once_with_its_accessible_name() -> None:
    charts = learning_curves(steps(40))
    assert [chart.title for chart in charts] == [curve.title for curve in CURVES]
    ids: list[str] = []
    for chart in charts:
        root = ElementTree.fromstring(chart.svg)
        assert root.get("role") == "img"
        named = {child.get("id"): child.text for child in root if child.tag in ("title", "desc")}
        assert set((root.get("aria-labelledby") or "").split()) == set(named)
        assert chart.title in named.values()
        assert all(named.values())
        ids += [found for element in root.iter() if (found := element.get("id"))]
    assert len(ids) == len(set(ids)), "ids of two charts clash on one page"


def test_references_within_a_chart_hit_an_id_of_that_chart() -> None:
    for chart in (*learning_curves(steps(40)), fraction_bars("bars", "Bars", [Bar("a", 0.5, (0.4, 0.6))])):
        ids = {element.get("id") for element in ElementTree.fromstring(chart.svg).iter()}
        links = re.findall(r'(?:href="|url\()#([^")]+)', chart.svg)
        assert links
        assert set(links) <= ids


def test_a_chart_has_no_style_no_metadata_and_inks_with_the_page() -> None:
    svg = learning_curves(steps(40))[0].svg
    assert "style" not in svg
    assert "metadata" not in svg
    assert "http" not in svg
    assert "currentColor" in svg
    assert "#010203" not in svg


def test_charts_that_are_drawn_at_once_are_those_that_are_drawn_alone() -> None:
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 9)]
    alone = learning_curves(rows)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == alone for found in pool.map(lambda _: learning_curves(rows), range(8)))


def test_an_axis_of_steps_says_where_it_begins_and_ends() -> None:
    root = ElementTree.fromstring(learning_curves(steps(40))[0].svg)
    left, right, first, last = map(float, (root.get("data-steps") or "").split())
    assert 0 < left < right <= 1
    assert first < 1
    assert last > 40
    assert ElementTree.fromstring(fraction_bars("bars", "Bars", [Bar("a", 0.5)]).svg).get("data-steps") is None


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert learning_curves(steps(40)) == learning_curves(steps(40))


def test_the_table_beside_a_curve_states_first_tail_and_range() -> None:
    chart = learning_curves([{"step": step, "loss": loss} for step, loss in enumerate((4, 1, 3, 2), start=1)])[0]
    assert chart.rows == (("loss", "4", "2", "1", "4"),)


@pytest.mark.parametrize("bad", [None, "0.5", True, float("nan"), float("inf"), 10**400, 1e300])
def test_a_value_that_cannot_be_drawn_is_a_gap(bad: object) -> None:
    rows: list[dict[str, object]] = [{"step": step, "loss": 0.5} for step in range(1, 6)]
    rows[2]["loss"] = bad
    assert learning_curves(rows)[0].rows == (("loss", "0.5", "0.5", "0.5", "0.5"),)
    assert learning_curves([{"step": 1, "loss": bad}]) == []


def test_one_step_is_drawn() -> None:
    assert len(learning_curves(steps(1))) == len(CURVES)


def test_a_long_run_is_thinned_and_says_so() -> None:
    short, long = learning_curves(steps(MAX_POINTS))[0], learning_curves(steps(20 * MAX_POINTS))[0]
    assert "band: lowest to highest of 20 steps" in long.note
    assert len(long.svg) < 5 * len(short.svg)


def test_a_single_spike_of_a_long_run_is_still_to_be_seen() -> None:
    """The band reaches to it, so the axis does; a mean of its block would have hidden it."""
    rows: list[dict[str, object]] = [{"step": step, "loss": 0.5} for step in range(1, 50 * MAX_POINTS)]
    rows[777]["loss"] = 90.0
    texts = [element.text for element in ElementTree.fromstring(learning_curves(rows)[0].svg).iter("text")]
    assert "80" in texts


def test_the_running_mean_leaves_out_gaps_and_keeps_a_constant() -> None:
    values = np.array([2.0, np.nan, 2.0, 2.0, np.nan, np.nan, np.nan])
    found = smoothed(values, 3)
    assert found[:5] == pytest.approx([2.0] * 5)
    assert np.isnan(found[5:]).all()


def test_bars_carry_hostile_labels_as_text_and_mark_what_was_not_measured() -> None:
    label = "<script>$x^2$</script> 🙂 @0@ " + "w" * 90
    chart = fraction_bars("bars", "Bars", [Bar("ours", 0.5, (0.4, 0.6)), Bar(label, 0.25, measured=False)])
    root = ElementTree.fromstring(chart.svg)
    assert root.find(".//script") is None
    texts = [element.text or "" for element in root.iter("text")]
    assert any(text.startswith("<script>$x^2$") and text.endswith("(not this run)") for text in texts)
    assert all(len(text) < 60 for text in texts)
    assert chart.rows == (
        ("ours", "50.0%", "40.0% to 60.0%"),
        (f"{label} (not this run)", "25.0%", ""),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (640, "640"),
        (1234567, "1.23e+06"),
        (0.69314, "0.6931"),
        (5e-7, "5e-07"),
        (-12345.6, "-12,346"),
    ],
)
def test_numbers_are_printed_to_be_read(value: float, text: str) -> None:
    assert plain_number(value) == text


def test_validations_stand_beside_the_steps() -> None:
    """In the same chart, with rows of their own in its table; alone they are a curve too."""
    plain, both = learning_curves(steps(40)), learning_curves(steps(40), validations=steps(4))
    assert [chart.title for chart in both] == [chart.title for chart in plain]
    loss, own = both[0], plain[0]
    assert [row[0] for row in loss.rows] == ["loss", "loss, held-out"]
    assert "circles: held-out pairs" in loss.note
    assert "held-out" not in own.note
    assert loss.svg != own.svg
    alone = learning_curves([], validations=steps(4))
    assert alone[0].rows[0][0] == "loss, held-out"
    assert "Over 4 validations" in alone[0].svg
    assert learning_curves([]) == []


def test_ktos_rewards_are_drawn_by_its_own_labels() -> None:
    rows = [{"step": step, "rewards/desirable": 0.1, "rewards/undesirable": -0.1} for step in (1, 2)]
    assert [row[0] for row in learning_curves(rows)[0].rows] == ["desirable", "undesirable"]


def test_events_are_numbered_above_the_curve() -> None:
    events = [Event(step, "x") for step in range(1, 13)]
    root = ElementTree.fromstring(learning_curves(steps(40), events=events)[0].svg)
    sizes = [element.text for element in root.iter("text") if "8px" in str(element.attrib)]
    assert sizes == [str(number) for number in range(1, 10)]
