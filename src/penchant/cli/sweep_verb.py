"""`penchant sweep`: one recipe, several values of some settings, and which of them to take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from penchant.cli import completers
from penchant.cli.app import Debug, Json, Limit, Quiet, Sets, Track, app, fail_after_result, run_verb


@app.command()
def sweep(
    recipe: Annotated[
        str, typer.Argument(help="Name of a packaged recipe, or a YAML file.", autocompletion=completers.recipe)
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Pairs: a file, or a folder with a train split.", autocompletion=completers.data
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the sweep; every run gets one in it.")],
    grid: Annotated[
        list[str],
        typer.Option(
            "--grid",
            metavar="A.B=C,D",
            help="Values of one setting; several options: every combination.",
            autocompletion=completers.setting,
        ),
    ],
    test: Annotated[
        Path | None,
        typer.Option("--test", help="Pairs to report on; by default the test split of --data, or some held back."),
    ] = None,
    validation_fraction: Annotated[
        float,
        typer.Option(
            "--validation-fraction", min=0.01, max=0.5, help="Share of training prompts held back to choose on."
        ),
    ] = 0.1,
    kl_prompts: Annotated[
        int, typer.Option("--kl-prompts", min=2, help="Prompts that every policy answers, for its KL.")
    ] = 32,
    kl_tokens: Annotated[int, typer.Option("--kl-tokens", min=1, help="Longest of these answers.")] = 48,
    sets: Sets = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished runs, go on with the one that was interrupted.")
    ] = False,
    limit: Limit = None,
    track: Track = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train once for every combination of some settings, sharing what is equal, and choose on held-back pairs."""
    options: dict[str, Any] = {
        "test": test,
        "limit": limit,
        "validation_fraction": validation_fraction,
        "prompts": kl_prompts,
        "answer_tokens": kl_tokens,
    }
    run_verb(
        lambda: _sweep(
            recipe,
            data,
            out,
            grid,
            sets or [],
            options,
            resume=resume,
            track=track or [],
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


def _sweep(
    recipe: str,
    data: Path,
    out: Path,
    grid: Sequence[str],
    sets: Sequence[str],
    options: dict[str, Any],
    *,
    resume: bool,
    track: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> None:
    from penchant.cli.working import say_next, working
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper
    from penchant.workflow.sweep_grid import parse_grid, sweep_points

    points = sweep_points(recipe, sets, parse_grid(grid), out)  # all of them, before anything is done

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.sweep import Sweep, sweep_run

        return sweep_run(Sweep(points, data, out, **options), resume=resume, reporter=reporter, stopper=stopper)

    found = working(work, quiet=quiet, again=[["--resume"]], track=track)
    if as_json:
        print(json.dumps(found))
    else:
        from rich.console import Console

        from penchant.cli.sweep_view import show_sweep

        print()
        show_sweep(found, Console(soft_wrap=False))
        lines = [f"Page     {out / 'sweep.html'}"]
        if found["winner"]:
            winner = out / found["winner"]["folder"]
            lines += [f"Winner   {winner}", f"Next     penchant eval {winner} --data {out / 'data'}"]
        say_next(*lines, quiet=quiet)
    _fail_for(found, out)


def _fail_for(found: dict[str, Any], out: Path) -> None:
    """End with an error when a run failed: with its exit code, where all that failed have the same."""
    from penchant.errors import PenchantError

    failed = [run for run in found["runs"] if run["state"] == "failed"]
    if not failed:
        return
    error = PenchantError(
        f"{len(failed)} of {len(found['runs'])} runs failed: {', '.join(run['folder'] for run in failed)}",
        where=str(out),
        fix="The others are finished. --resume tries those that failed again.",
    )
    codes = {run["exit_code"] for run in failed}
    error.exit_code = codes.pop() if len(codes) == 1 else error.exit_code
    fail_after_result(error)
