"""What `penchant eval` prints: the models side by side, every line with interval and paired test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable
from penchant.reporting.comparison_text import direction_of, figure_text, rows_of, test_text, wanted_direction

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
            yield f"  {printable(line['name'])} ({_about(line)})"
            for place, name in enumerate(names):
                cell, test = line["cells"][place], line["against_first"][place]
                if cell is not None:
                    yield f"    {name:<{width}}  {figure_text(cell, line)}{_told(test, line)}"
            if line["against_previous"]:
                yield f"    {names[-1]} against {names[-2]}:{_told(line['against_previous'], line)}"
        yield ""


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
    yield Text.assemble(printable(line["name"]), (f"\n{_about(line)}", "dim"))
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


def _about(line: dict[str, Any]) -> str:
    return ", ".join(filter(None, (rows_of(line), wanted_direction(line))))
