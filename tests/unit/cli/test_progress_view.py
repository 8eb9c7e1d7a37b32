"""How fast a part gets on, and what of it fits into a line."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.cli.pace import Pace, clock
from penchant.cli.progress_view import log_line, named_figures, terminal_lines

PAIRS = {
    "loss": 0.512,
    "logps/chosen": -100.0,
    "logps/rejected": -120.0,
    "rewards/accuracies": 0.78,
    "rewards/margins": 0.412,
    "rewards/chosen": -0.12,
    "grad_norm": 3.0,
    "tokens": 1000,
    "seconds": 0.5,
    "peak_memory_bytes": 1_310_000_000,
}


def paced(reports: int, *, total: int = 400, count: int = 1, seconds: float = 0.5, before: int = 0) -> Pace:
    pace = Pace(total, 0.0)
    if before:
        pace.add(before, 0.0, {}, before=True)
    for number in range(reports):
        pace.add(count, (number + 1) * seconds, PAIRS)
    return pace


def test_the_figures_are_the_four_that_matter() -> None:
    assert named_figures(PAIRS) == ["loss 0.512", "accuracy 0.780", "margin 0.412", "chosen reward -0.120"]
    sft = {"loss": 1.5, "logps/chosen": -9.0, "grad_norm": 2.0, "learning_rate": 5e-6}
    assert named_figures(sft) == ["loss 1.500", "perplexity 4.482", "gradient norm 2.000", "learning rate 5.0e-06"]
    assert named_figures({}) == []


def test_tokens_are_the_rate_where_they_are_known() -> None:
    assert paced(5).rate() == "2,000 tok/s"
    slow = Pace(10, 0.0)
    slow.add(1, 25.0, {})
    assert slow.rate() == "25 s each"


def test_what_was_done_before_tells_no_speed() -> None:
    fresh, resumed = paced(50, total=400), paced(50, total=700, before=300)
    assert resumed.done == 350
    assert resumed.left_seconds(25.0) == fresh.left_seconds(25.0)
    assert resumed.rate() == fresh.rate()


def test_the_time_left_is_told_after_three_reports_and_runs_down() -> None:
    assert paced(2).left_seconds(1.0) is None
    left, half = paced(10).left_seconds(5.0) or (0, 1)
    assert left == pytest.approx(195)
    assert half == pytest.approx(0, abs=1e-6)
    assert (paced(10).left_seconds(7.0) or (0, 0))[0] == pytest.approx(193)


def test_a_slow_first_report_is_not_followed() -> None:
    pace = Pace(10, 0.0)
    for now in (30.0, 31.0, 32.0, 33.0):
        pace.add(1, now, {})
    assert (pace.left_seconds(33.0) or (0, 0))[0] == pytest.approx(6)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Steps of uneven length: in about 95 of 100 courses the rest takes as long as was said."""
    held, coin = 0, random.Random(0)
    for _ in range(400):
        pace, now = Pace(120, 0.0), 0.0
        steps = [coin.lognormvariate(0, 0.5) for _ in range(120)]
        for seconds in steps[:40]:
            now += seconds
            pace.add(1, now, {})
        left, half = pace.left_seconds(now) or (0.0, 0.0)
        held += abs(sum(steps[40:]) - left) <= half
    assert 0.91 < held / 400 < 0.98


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00"), (200, "3:20"), (3750, "1:02:30")])
def test_times_read_like_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@settings(max_examples=40)
@given(
    what=st.text(max_size=60).filter(lambda text: text.isprintable()),
    width=st.integers(20, 200),
    total=st.sampled_from([0, 7, 400, 10_000_000]),
    reports=st.integers(0, 12),
    ascii_only=st.booleans(),
)
def test_no_line_is_wider_than_the_terminal(
    what: str, width: int, total: int, reports: int, ascii_only: bool
) -> None:
    pace = paced(reports, total=total)
    lines = terminal_lines(what, pace, 9.0, PAIRS, width=width, ascii_only=ascii_only)
    assert all(line.cell_len <= width for line in lines)
    assert len(lines) <= 2
    if ascii_only and what.isascii():
        assert all(line.plain.isascii() for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_usual_terminals_show_everything(width: int) -> None:
    bar, figures = terminal_lines("Training", paced(120, seconds=1.5), 180.0, PAIRS, width=width)
    for part in ("Training", "120/400", "2,000 tok/s", "7:00 left", "1.31 GB", "\u2501"):
        assert part in bar.plain
    assert figures.plain.split("  ")[1:] == [
        "loss 0.512",
        "accuracy 0.780",
        "margin 0.412",
        "chosen reward -0.120",
    ]


def test_a_narrow_terminal_keeps_how_far_it_is() -> None:
    [bar, *_] = terminal_lines("Training", paced(10), 5.0, PAIRS, width=30)
    assert "10/400" in bar.plain
    assert "Training" in bar.plain


def test_a_log_line_tells_the_interval() -> None:
    pace = Pace(100, 0.0)
    for now in (1.0, 2.0, 4.0, 5.0, 7.0, 8.0):
        pace.add(1, now, {})
    assert " left (" in log_line("Scoring", pace, 8.0, {})
    pace.end(9.0)
    assert log_line("Scoring", pace, 8.0, {"peak_memory_bytes": 2e9}) == "Scoring: 6/100 in 9 s, 0.8/s, 2.00 GB"
