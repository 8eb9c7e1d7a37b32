"""The verb `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.app import Debug, app, run_verb


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="A run directory; several are put on one page.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The page; by default RUN/report.html, of several runs report-runs.html."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a run's report.html anew, or one page on several runs: overlaid, and tested against the first."""
    run_verb(lambda: _report(runs, out), debug)


def _report(runs: list[Path], out: Path | None) -> None:
    from penchant.cli.working import say_next

    if len(runs) == 1:
        from penchant.reporting.report import write_report

        say_next(f"Report   {write_report(runs[0], out)}")
        return
    from penchant.cli.quiet_libraries import quiet_libraries

    quiet_libraries()
    from penchant.reporting.report_runs import PAGE_FILE
    from penchant.workflow.report_runs import report_runs

    say_next(
        f"Report   {report_runs(runs, out or Path(PAGE_FILE))}",
        f"Next     penchant compare {' '.join(map(str, runs))}",
    )
