"""The comparison of `penchant eval` in words: figures, differences, tests; for terminal and page alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_PERCENT = ("share", "fraction")


def figure_text(cell: dict[str, Any], line: dict[str, Any]) -> str:
    """Return a figure with its interval."""
    if cell["value"] is None:
        return "no rows"
    show = _shower(line)
    bounds = cell["interval"]
    return show(cell["value"]) + (f" [{show(bounds[0])}, {show(bounds[1])}]" if bounds else "")


def test_text(test: dict[str, Any], line: dict[str, Any]) -> str:
    """Return a difference with its interval, and p where there is one."""
    bounds = test["interval"]
    text = _DIFFERENCES[line["kind"]](test["difference"])
    if bounds:
        text += " [" + ", ".join(_BOUNDS[line["kind"]](bound) for bound in bounds) + "]"
    return text if test["p"] is None else f"{text}, p = {test['p']:.2g}"


def direction_of(test: dict[str, Any] | None, line: dict[str, Any]) -> str:
    """Return whether a difference that is clear is "better" or "worse", "differs" where neither is said, or ""."""
    if test is None or not test["clear"]:
        return ""
    if not line["better"]:
        return "differs"
    neutral = 1 if line["kind"] == "perplexity" else 0
    return "better" if (test["difference"] > neutral) == (line["better"] == "higher") else "worse"


def rows_of(line: dict[str, Any]) -> str:
    """Return how many rows the figures of a line are of."""
    counts = sorted({cell["rows"] for cell in line["cells"] if cell is not None})
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{shown} rows"


def wanted_direction(line: dict[str, Any]) -> str:
    """Return which way is better, "" where neither is."""
    return f"{line['better']} is better" if line["better"] else ""


def _shower(line: dict[str, Any]) -> Callable[[float], str]:
    return (lambda value: f"{value:.1%}") if line["kind"] in _PERCENT else (lambda value: f"{value:.4g}")


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"


def _ratio(value: float) -> str:
    return f"{value:.4g}"


_BOUNDS = {"share": _points, "fraction": _points, "mean": _signed, "perplexity": _ratio}
_DIFFERENCES = {
    **dict.fromkeys(_PERCENT, lambda value: f"{_points(value)} points"),
    "mean": _signed,
    "perplexity": lambda value: f"times {_ratio(value)}",
}
