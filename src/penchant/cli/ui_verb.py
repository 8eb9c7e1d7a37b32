"""`penchant ui`: the local pages."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penchant.cli.app import Debug, Json, Quiet, app, run_verb
from penchant.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from penchant.evaluation.token_scores import ScoredPair
    from penchant.tokens.chat import ChatFormat
    from penchant.web.run_steps import RunWork, Texts


@app.command()
def ui(
    runs: Annotated[Path, typer.Argument(metavar="RUNS_DIR", help="A folder of runs, or one run.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="A file or folder of rows to browse beside the runs' own; may be repeated."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="A model or run to ask beside the runs, and whose tokens are shown of --data."
        ),
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(
            "--votes", metavar="FILE", help="Where pairs chosen in the playground go, as JSONL for `prepare`."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0: wherever is free.")
    ] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show runs in a browser, live, and their data; ask them; vote blindly. For this machine alone."""
    run_verb(
        lambda: _ui(runs, data or [], model, votes, port, quiet=quiet, as_json=as_json),
        debug,
        as_json,
    )


def _ui(
    runs: Path,
    data: list[Path],
    model: str | None,
    votes: Path | None,
    port: int,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    if not runs.is_dir():
        raise UsageError(
            f"there is no such folder.{did_you_mean(runs.name, _folders_beside(runs))}",
            where=str(runs),
            fix="Name a folder of runs, or a run; it may still be empty.",
        )
    from penchant.cli.quiet_libraries import quiet_libraries
    from penchant.web.parts import make_parts
    from penchant.web.serve import serve

    quiet_libraries()
    # a run of somebody else may name any model: what is not on this machine already stays unread
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from penchant.workflow.playground.models import RunModels

    models = RunModels(runs, [model] if model else [])
    parts = make_parts(runs, _run_work(), models, data=data, model=model, pairs=votes, load_chat=_load_chat)

    def ready(address: str) -> None:
        if as_json:
            said = {"address": address, "runs": str(runs.resolve()), "sections": [part.title for part in parts]}
            print(json.dumps(said), flush=True)
            return
        _say(address, runs, [part.title for part in parts], quiet=quiet)

    serve(parts, port=port, ready=ready)


def _run_work() -> RunWork:
    """What is done for the pages when a button or a page asks for it; torch is loaded then."""
    from penchant.web.run_steps import RunWork

    def texts(run: Path) -> Texts:
        from penchant.workflow.run_record import read_run, training_texts

        return training_texts(read_run(run))

    def tokens(run: Path, name: str, say: Callable[[str], None]) -> ScoredPair:
        say("Loading")
        from penchant.workflow.pair_tokens import scored_pair
        from penchant.workflow.reporter import Reporter

        class Told(Reporter):
            """Tells the page."""

            def note(self, text: str) -> None:
                say(text)

            @contextlib.contextmanager
            def progress(self, what: str, total: int) -> Iterator[Callable[..., None]]:
                say(what)
                yield lambda count, **_: None

        return scored_pair(run, name, Told())

    return RunWork(texts, tokens)


def _load_chat(name: str) -> ChatFormat:
    from penchant.workflow.inspect import load_chat

    return load_chat(name)


def _say(address: str, runs: Path, sections: list[str], *, quiet: bool) -> None:
    from penchant.cli.console import printable

    if quiet:
        print(address, flush=True)
        return
    lines = (
        f"Open     {address}",
        f"Shows    {', '.join(sections)} of {printable(str(runs.resolve()))}",
        "Private  this machine alone can reach it, and the address holds its key: do not pass it on",
        "Stop     Ctrl+C",
    )
    print("\n".join(lines), flush=True)


def _folders_beside(path: Path) -> list[str]:
    parent = path.parent
    return [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
