"""The verb `report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli import completers
from penchant.cli.app import Debug, Json, Quiet, app, run_verb


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="A run directory; several are put on one page.", autocompletion=completers.run),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The page; by default RUN/report.html, of several runs report-runs.html."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a run's report.html anew, or one page on several runs: overlaid, and tested against the first."""
    run_verb(lambda: _report(runs, out, quiet=quiet, as_json=as_json), debug, as_json)


def _report(runs: list[Path], out: Path | None, *, quiet: bool, as_json: bool) -> None:
    from penchant.cli.quiet_libraries import quiet_libraries
    from penchant.cli.working import say_next

    quiet_libraries()
    page, following = _of_one(runs[0], out) if len(runs) == 1 else _of_several(runs, out)
    if as_json:
        print(json.dumps({"runs": [str(run) for run in runs], "report": str(page)}))
        return
    say_next(f"Report   {page}", f"Next     {following}", quiet=quiet)


def _of_one(run: Path, out: Path | None) -> tuple[Path, str]:
    from penchant.reporting.report import write_report

    return write_report(run, out), f"penchant explain {run}"


def _of_several(runs: list[Path], out: Path | None) -> tuple[Path, str]:
    from penchant.reporting.report_runs import PAGE_FILE
    from penchant.workflow.report_runs import report_runs

    return report_runs(runs, out or Path(PAGE_FILE)), f"penchant compare {' '.join(map(str, runs))}"
