"""What `penchant eval` prints: the models side by side, every line with interval and paired test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable

_PERCENT = ("share", "fraction")
_MARKS = {"better": ("▲", "green"), "worse": ("▼", "red"), "differs": ("≠", "yellow"), "": ("", "")}


def show_comparison(comparison: dict[str, Any], console: Console, *, details: bool = False) -> None:
    """Print a comparison: a table on a terminal, plain lines elsewhere.

    Args:
        comparison: See `penchant.workflow.eval_table.comparison_of`.
        console: Where to.
        details: Whether the lines that are parts of others are shown too.
    """
    hidden = sum(line["detail"] for lines in comparison["table"].values() for line in lines)
    if console.is_terminal:
        for table in _tables(comparison, details):
            console.print(table)
    else:
        for text in plain_lines(comparison, details=details):
            console.print(Text(text), soft_wrap=True)
    told = ["Intervals are 95 %. The small line is the difference from the reference on the same rows."]
    if hidden and not details:
        told.append(f"{hidden} more lines, by type and kind: --details, or eval/comparison.json.")
    console.print(Text("\n".join(told), style="dim" if console.is_terminal else ""), soft_wrap=True)


def plain_lines(comparison: dict[str, Any], *, details: bool) -> Iterator[str]:
    """Yield the comparison as lines of text: a heading, a measure, and below it one line a model."""
    names = [printable(column["name"]) for column in comparison["columns"]]
    width = max(map(len, names))
    for heading, lines in comparison["table"].items():
        yield heading.capitalize()
        for line in lines:
            if line["detail"] and not details:
                continue
            yield f"  {printable(line['name'])} ({_rows_of(line)}{_direction(line)})"
            for place, name in enumerate(names):
                cell, test = line["cells"][place], line["against_first"][place]
                if cell is not None:
                    yield f"    {name:<{width}}  {figure_text(cell, line)}{_told(test, line)}"
            if line["against_previous"]:
                yield f"    {names[-1]} against {names[-2]}:{_told(line['against_previous'], line)}"
        yield ""


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


def _tables(comparison: dict[str, Any], details: bool) -> Iterator[Table]:
    names = [printable(column["name"]) for column in comparison["columns"]]
    for heading, lines in comparison["table"].items():
        table = Table(title=heading.capitalize(), title_justify="left", title_style="bold", show_lines=True)
        table.add_column("", ratio=2)
        for name in names:
            table.add_column(Text(name), ratio=2)
        if len(names) > 2:
            table.add_column(Text(f"{names[-1]} against {names[-2]}"), ratio=2)
        for line in lines:
            if details or not line["detail"]:
                table.add_row(*_cells(line, several=len(names) > 2))
        if table.row_count:
            yield table


def _cells(line: dict[str, Any], *, several: bool) -> Iterator[Text]:
    yield Text.assemble(printable(line["name"]), (f"\n{_rows_of(line)}{_direction(line)}", "dim"))
    for cell, test in zip(line["cells"], line["against_first"], strict=True):
        if cell is None:
            yield Text("")
            continue
        mark, style = _MARKS[direction_of(test, line)]
        text = Text.assemble(figure_text(cell, line), (f" {mark}" if mark else "", style))
        yield text.append(f"\n{test_text(test, line)}", "dim") if test else text
    if several:
        last = line["against_previous"]
        mark, style = _MARKS[direction_of(last, line)]
        yield Text.assemble(test_text(last, line), (f" {mark}" if mark else "", style)) if last else Text("")


def _told(test: dict[str, Any] | None, line: dict[str, Any]) -> str:
    if test is None:
        return ""
    direction = direction_of(test, line)
    return f"   {test_text(test, line)}" + (f", {direction}" if direction else "")


def _rows_of(line: dict[str, Any]) -> str:
    counts = sorted({cell["rows"] for cell in line["cells"] if cell is not None})
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{shown} rows"


def _direction(line: dict[str, Any]) -> str:
    return f", {line['better']} is better" if line["better"] else ""


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
