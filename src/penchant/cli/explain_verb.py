"""The verb `explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penchant.cli import completers
from penchant.cli.app import Debug, Json, Quiet, app, run_verb


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="A run directory, finished or not.", autocompletion=completers.run)],
    question: Annotated[
        str | None,
        typer.Argument(
            help='What you want to know, such as "why is my chosen reward falling"; all, if not given.'
        ),
    ] = None,
    tokens: Annotated[
        bool,
        typer.Option("--tokens/--no-tokens", help="Score the tokens of the pairs that fell most, if any did."),
    ] = True,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what went wrong in a run, if anything: with its evidence, the pairs and tokens, and what to try next."""
    run_verb(lambda: _explain(run, question, tokens=tokens, quiet=quiet, as_json=as_json), debug, as_json)


def _explain(run: Path, question: str | None, *, tokens: bool, quiet: bool, as_json: bool) -> None:
    from penchant.cli.working import say_next, working
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.explain import explain as run_explain

        return run_explain(run, question, tokens=tokens, reporter=reporter, stopper=stopper)

    found = working(work, quiet=quiet)
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console

    from penchant.cli.explain_view import next_command, show_explanations

    show_explanations(found, Console(soft_wrap=False), whole=question is not None)
    say_next(f"Next     {next_command(found, run)}", quiet=quiet)
