"""`report-runs.html`: several runs on one self-contained page, overlaid, and tested against the first one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.data.atomic import write_text
from penchant.evaluation.run_facts import differing
from penchant.reporting.figures import Row, byte_size, figure_of, list_of, percent, plain_number, rows_of
from penchant.reporting.page import page_environment
from penchant.reporting.report_evaluation import PAIRED, SINGLE
from penchant.reporting.report_setup import flat_settings, state_of
from penchant.reporting.report_verdict import cost_of, verdict_of
from penchant.reporting.run_files import RunFiles, read_run_files
from penchant.reporting.runs_charts import MOST_DRAWN, OVERLAYS, overlay

PAGE_FILE = "report-runs.html"
_SIGNIFICANT = 0.05
_UNITS = {"": percent, "bytes": byte_size}


def write_runs_report(
    runs: Sequence[Path], target: Path, *, tests: Mapping[str, Any] | None = None, why_not: str = ""
) -> Path:
    """Write the page; it is complete or it is not there.

    Args:
        runs: Run directories; the others are held against the first.
        target: The page.
        tests: Paired figures as `penchant.workflow.compare.compare` returns them, None where there are none.
        why_not: Then the reason.

    Raises:
        DataError: In one of the directories there is no run.
        DiskError: The page cannot be written.
    """
    write_text(target, render_runs_report(runs, tests=tests, why_not=why_not))
    return target


def render_runs_report(runs: Sequence[Path], *, tests: Mapping[str, Any] | None = None, why_not: str = "") -> str:
    """Return the page that `write_runs_report` writes; the same files give the same page."""
    files = [read_run_files(run) for run in runs]
    names = run_names(runs, files)
    drawn = files[:MOST_DRAWN]
    charts = (overlay(shown, names, [getattr(one, shown.lines) for one in drawn]) for shown in OVERLAYS)
    return (
        page_environment()
        .get_template("report_runs.html.j2")
        .render(
            names=names,
            runs=[_card(name, one) for name, one in zip(names, files, strict=True)],
            charts=[chart for chart in charts if chart],
            not_drawn=names[MOST_DRAWN:],
            figures=_figures(files),
            costs=_costs(files),
            settings=_settings(files),
            paired=[_paired(figure) for figure in rows_of(tests or {}, "figures")],
            pairs=(tests or {}).get("pairs", 0),
            notes=[str(note) for note in list_of(tests or {}, "notes")],
            why_not=why_not,
        )
    )


def run_names(runs: Sequence[Path], files: Sequence[RunFiles]) -> list[str]:
    """Return what runs are called: the folders' names, or whole paths where two are the same."""
    names = [one.name for one in files]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _card(name: str, files: RunFiles) -> Row:
    return {
        "name": name,
        "verdict": verdict_of(files.summary),
        "state": state_of(files),
        "losses": " + ".join(loss.upper() for loss in files.losses),
        "steps": len(files.steps),
        "problems": files.problems,
    }


def _figures(files: Sequence[RunFiles]) -> list[tuple[str, list[Row | None]]]:
    """Figures of the evaluations with their intervals, a cell a run; lines that no run has are left out."""
    wanted = [(label, f"{key}_policy", show) for label, key, show in PAIRED]
    wanted += SINGLE
    rows = [(label, [figure_of(one.summary or {}, key, show) for one in files]) for label, key, show in wanted]
    return [(label, cells) for label, cells in rows if any(cells)]


def _costs(files: Sequence[RunFiles]) -> list[tuple[str, ...]]:
    known = [{name: value for name, value, _ in cost_of(one)} for one in files]
    return [
        (name, *(cost.get(name, "") for cost in known))
        for name in dict.fromkeys(key for one in known for key in one)
    ]


def _settings(files: Sequence[RunFiles]) -> list[tuple[str, ...]]:
    rows = differing([flat_settings(one.config) for one in files])
    return [
        (row["key"], *("" if value is None else _shortened(str(value)) for value in row["values"])) for row in rows
    ]


def _shortened(value: str) -> str:
    """A setting as it stands, a digest by its beginning."""
    return f"{value[:_DIGEST]}…" if _IS_DIGEST.fullmatch(value) else value


_DIGEST, _IS_DIGEST = 12, re.compile(r"[0-9a-f]{40,}")


def _paired(figure: Mapping[str, Any]) -> Row:
    """A figure on the rows that all runs share: a value a run, and each further run's difference to the first."""
    show = percent if not figure.get("unit") else plain_number
    cells: list[Row] = [{"value": _with_interval(one, show), "test": ""} for one in rows_of(figure, "runs")]
    for cell, one in zip(cells[1:], rows_of(figure, "differences"), strict=False):
        p = one.get("p_holm", one.get("p"))
        significant = isinstance(p, float) and p < _SIGNIFICANT
        said = f"p\u00a0=\u00a0{p:.2g}, {one.get('test', '')}" if isinstance(p, float) else ""
        cell |= {"test": f"{_with_interval(one, show, sign='+')}, {said}", "significant": significant}
    unit = f" ({figure['unit']})" if figure.get("unit") else ""
    return {"label": f"{figure.get('label', '')}{unit}", "cells": cells}


def _with_interval(figure: Mapping[str, Any], show: Any, *, sign: str = "") -> str:
    shown = figure_of({**figure, "value_interval": figure.get("interval")}, "value", show)
    if shown is None:
        return ""
    lead = sign if sign and not shown["value"].startswith("-") else ""
    return lead + shown["value"] + (f" ({shown['interval']})" if shown["interval"] else "")
