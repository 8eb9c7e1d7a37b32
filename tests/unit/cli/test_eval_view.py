"""How a comparison is printed: plain lines for logs, a table on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from penchant.cli.eval_view import plain_lines, show_comparison
from penchant.evaluation.measures import Measure, compare_measures
from penchant.reporting.comparison_text import direction_of, figure_text, test_text

test_text.__test__ = False  # pyright: ignore[reportFunctionMemberAccess] - its name is no test's


def rows(name: str, values: list[float], **options: Any) -> Measure:
    return Measure(name, {str(place): value for place, value in enumerate(values)}, **options)


def comparison(*columns: list[Measure], names: tuple[str, ...] = ("reference", "after SFT", "after DPO")) -> Any:
    return {
        "columns": [{"name": name} for name in names[: len(columns)]],
        "table": {"quality": compare_measures(columns)},
    }


REFUSED = [rows("refused", [0.0] * 8 + [1.0] * 2, better="higher"), rows("refused, a", [0.0, 1.0], detail=True)]
MORE = [rows("refused", [1.0] * 9 + [0.0], better="higher"), rows("refused, a", [1.0, 1.0], detail=True)]


def printed(found: Any, *, terminal: bool = False, **options: Any) -> str:
    stream = io.StringIO()
    show_comparison(found, Console(file=stream, force_terminal=terminal, width=160, no_color=True), **options)
    return stream.getvalue()


def test_plain_lines_have_a_figure_its_interval_and_the_paired_test() -> None:
    text = printed(comparison(REFUSED, MORE))
    assert "Quality\n  refused (10 rows, higher is better)\n" in text
    assert "    reference  20.0% [5.7%, 51.0%]\n" in text
    assert "    after SFT  90.0% [59.6%, 98.2%]   +70.0 points [" in text
    assert "p = 0.039, better\n" in text
    assert "refused, a" not in text
    assert "1 more lines" in text
    assert "refused, a (2 rows)" in printed(comparison(REFUSED, MORE), details=True)


def test_a_terminal_gets_a_table_with_a_column_a_model() -> None:
    text = printed(comparison(REFUSED, MORE, REFUSED), terminal=True)
    for word in ("reference", "after SFT", "after DPO", "after DPO against after SFT", "│"):
        assert word in text
    assert (text.count("▲"), text.count("▼")) == (1, 1)  # up from the reference, down again from the one before
    plain = printed(comparison(REFUSED, MORE, REFUSED))
    assert "after DPO against after SFT:   -70.0 points [" in plain


def test_a_clear_difference_is_better_or_worse_or_just_one() -> None:
    worse = compare_measures([MORE, REFUSED])[0]
    assert direction_of(worse["against_first"][1], worse) == "worse"
    longer = compare_measures(
        [[rows("words", [1.0, 2, 3], kind="mean")], [rows("words", [5.0, 6, 7], kind="mean")]]
    )[0]
    assert direction_of(longer["against_first"][1], longer) == "differs"
    lower = [rows("ppl", [value] * 4, kind="perplexity", better="lower") for value in (2.0, 1.0)]
    line = compare_measures([lower[:1], lower[1:]])[0]
    assert direction_of(line["against_first"][1], line) == "better"
    assert test_text(line["against_first"][1], line) == "times 0.3679 [0.3679, 0.3679]"
    assert direction_of(None, line) == ""


@pytest.mark.parametrize(
    ("kind", "text"), [("share", "50.0%"), ("fraction", "50.0%"), ("mean", "0.5"), ("perplexity", "1.649")]
)
def test_a_figure_has_its_unit(kind: str, text: str) -> None:
    cell = {"value": 0.5 if kind != "perplexity" else 1.6487, "interval": None, "rows": 1}
    assert figure_text(cell, {"kind": kind}) == text
    assert figure_text({"value": None, "interval": None, "rows": 0}, {"kind": kind}) == "no rows"


def test_a_column_without_the_line_is_left_out() -> None:
    lines = list(plain_lines(comparison([], [rows("KL", [1.0, 2.0], kind="mean")]), details=False))
    assert [line.split()[0] for line in lines if line.startswith("    ")] == ["after"]


def test_a_name_cannot_steer_the_terminal() -> None:
    hostile = comparison(
        [rows("a\x1b[31m", [1.0, 0.0])], [rows("a\x1b[31m", [1.0, 0.0])], names=("x\x1b]0;", "y[red]")
    )
    for terminal in (False, True):
        text = printed(hostile, terminal=terminal)
        assert "\x1b[31m" not in text
        assert "\x1b]0;" not in text
        assert "y[red]" in text
