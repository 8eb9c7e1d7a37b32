"""`eval/comparison.html`: models side by side on one self-contained page, with some of what they said.

Names, prompts and answers pass the gate of all pages: control characters are made visible, then Jinja escapes. The
page has no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.data.atomic import write_text
from penchant.reporting.comparison_text import direction_of, figure_text, rows_of, test_text, wanted_direction
from penchant.reporting.page import page_environment

_EXAMPLES = 3  # of each suite
_MARKS = {"better": "▲", "worse": "▼", "differs": "≠", "": ""}
_TONES = {"better": "good", "worse": "bad", "differs": "open", "": ""}

Answers = Mapping[str, Sequence[Mapping[str, Any]]]


def write_comparison_page(comparison: Mapping[str, Any], answers: Answers, target: Path) -> Path:
    """Write the page; it is complete or it is not there.

    Args:
        comparison: What `eval/comparison.json` holds.
        answers: Of each suite with answers the rows of `eval/answers/SUITE.jsonl`.
        target: The page.

    Raises:
        DiskError: It cannot be written.
    """
    write_text(target, render_comparison_page(comparison, answers))
    return target


def render_comparison_page(comparison: Mapping[str, Any], answers: Answers) -> str:
    """Return the page; the same figures and answers give the same page."""
    names = [column["name"] for column in comparison["columns"]]
    return (
        page_environment()
        .get_template("comparison.html.j2")
        .render(
            columns=comparison["columns"],
            comparison=comparison_tables(comparison),
            suites=comparison["suites"],
            examples={name: chosen for name, rows in answers.items() if (chosen := _chosen(rows, names))},
        )
    )


def comparison_tables(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a comparison as a page shows it.

    `columns` (the models' names, and with more than two a last one for the last against the one before) and
    `tables`: of each heading its `lines` and `details`, which are parts of other lines. A line has `name`,
    `about`, and a cell a column: `figure`, `test`, `mark` and `tone`, or None where nothing was measured.
    """
    names = [column["name"] for column in comparison["columns"]]
    several = len(names) > 2
    found = []
    for heading, lines in comparison["table"].items():
        shown = [(line["detail"], _line(line, several=several)) for line in lines]
        found.append(
            {
                "heading": heading.capitalize(),
                "lines": [line for detail, line in shown if not detail],
                "details": [line for detail, line in shown if detail],
            }
        )
    return {"columns": [*names, f"{names[-1]} against {names[-2]}"] if several else names, "tables": found}


def _line(line: Mapping[str, Any], *, several: bool) -> dict[str, Any]:
    told = dict(line)
    cells = [
        cell and {"figure": figure_text(cell, told), **_tested(test, told)}
        for cell, test in zip(line["cells"], line["against_first"], strict=True)
    ]
    if several:
        last = line["against_previous"]
        cells.append({"figure": "", **_tested(last, told)} if last else None)
    about = ", ".join(filter(None, (rows_of(told), wanted_direction(told))))
    return {"name": line["name"], "about": about, "cells": cells}


def _tested(test: dict[str, Any] | None, line: dict[str, Any]) -> dict[str, str]:
    direction = direction_of(test, line)
    text = test_text(test, line).replace("p = ", "p\u00a0=\u00a0") if test else ""  # is not broken over two lines
    return {"test": text, "mark": _MARKS[direction], "tone": _TONES[direction]}


def _chosen(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The first rows on which the last model is judged otherwise than the first, filled up in the file's order."""
    told = [row for row in rows if row["answers"][names[0]]["verdict"] != row["answers"][names[-1]]["verdict"]]
    return [*told, *(row for row in rows if row not in told)][:_EXAMPLES]
