"""The verb `compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penchant.cli import completers
from penchant.cli.app import Debug, Json, Limit, Quiet, app, run_verb


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Finished runs; the others are compared with the first.", autocompletion=completers.run
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Held-out pairs to score anew: a file, or a folder with a test split."),
    ] = None,
    limit: Limit = None,
    cases: Annotated[
        int, typer.Option("--cases", min=0, help="Pairs and answers to show of those that differ most, each way.")
    ] = 3,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare finished runs pair by pair: settings, figures with paired tests, best and worst cases."""
    run_verb(lambda: _compare(runs, data, limit, cases, quiet=quiet, as_json=as_json), debug, as_json)


def _compare(
    runs: list[Path], data: Path | None, limit: int | None, cases: int, *, quiet: bool, as_json: bool
) -> None:
    from penchant.cli.working import say_next, working
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.compare import compare as run_compare

        return run_compare(runs, data=data, limit=limit, cases=cases, reporter=reporter, stopper=stopper)

    found = working(work, quiet=quiet)
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console

    from penchant.cli.compare_view import show_comparison

    show_comparison(found, Console(soft_wrap=False))
    say_next(f"Next     penchant explain {runs[-1]}", quiet=quiet)
