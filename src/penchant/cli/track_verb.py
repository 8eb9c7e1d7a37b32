"""The verb `track`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli import completers
from penchant.cli.app import Debug, Json, Quiet, app, fail_after_result, run_verb


@app.command()
def track(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run directories, or folders of runs.", autocompletion=completers.run
        ),
    ],
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="TRACKER",
            help="trackio, tensorboard or wandb; several with commas.",
            autocompletion=completers.tracker,
        ),
    ],
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Send the figures of runs that are there to a tracker; what was sent before is not sent again."""
    run_verb(lambda: _track(runs, to, quiet=quiet, as_json=as_json), debug, as_json)


def _track(places: list[Path], to: list[str], *, quiet: bool, as_json: bool) -> None:
    from penchant.cli.console import printable
    from penchant.cli.working import working
    from penchant.errors import PenchantError
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper
    from penchant.workflow.tracking.asked import trackers_of
    from penchant.workflow.tracking.tracked import describe_outcome

    trackers = trackers_of(to, where="--to")

    def work(reporter: Reporter, stopper: Stopper) -> list[Outcome]:
        from penchant.workflow.tracking.afterwards import track_runs

        return track_runs(places, trackers, reporter=reporter, stopper=stopper)

    from penchant.workflow.tracking.process import Outcome

    found = working(work, quiet=quiet)
    if as_json:
        print(json.dumps([{**vars(one), "run": str(one.run)} for one in found]))
    else:
        print("\n".join(printable(describe_outcome(one)) for one in found))
    if failed := [one for one in found if one.failed]:
        fail_after_result(
            PenchantError(
                f"{len(failed)} of {len(found)} were not sent whole", fix="The same command sends the rest."
            )
        )
