"""`penchant ui`: the local pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.app import Debug, Json, app, run_verb
from penchant.errors import UsageError, did_you_mean


@app.command()
def ui(
    runs: Annotated[Path, typer.Argument(metavar="RUNS_DIR", help="A folder of runs, or one run.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0: wherever is free.")
    ] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show runs in a browser, live: tables, curves, single steps and pairs. For this machine alone."""
    run_verb(lambda: _ui(runs, port, as_json=as_json), debug)


def _ui(runs: Path, port: int, *, as_json: bool) -> None:
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
    parts = make_parts(runs)

    def ready(address: str) -> None:
        if as_json:
            said = {"address": address, "runs": str(runs.resolve()), "sections": [part.title for part in parts]}
            print(json.dumps(said), flush=True)
            return
        _say(address, runs, [part.title for part in parts])

    serve(parts, port=port, ready=ready)


def _say(address: str, runs: Path, sections: list[str]) -> None:
    from penchant.cli.console import printable

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
