"""The verb `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penchant.cli.app import Debug, Json, Quiet, app, run_verb


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run, a stage of align, or a model folder.")],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="hf, merged, adapter, gguf or ollama.")],
    quant: Annotated[
        str | None,
        typer.Option(
            "--quant", help="Of gguf and ollama: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0; q8_0 if not given."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; RUN/export/FORM if not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    push: Annotated[
        str | None, typer.Option("--push", metavar="USER/NAME", help="Send it to the Hub too, as a private model.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: everybody may read it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --push: list the files, send none.")] = False,
    pairs: Annotated[int, typer.Option("--pairs", min=1, help="Held-out pairs that it is compared on.")] = 16,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="READER", help="Of gguf and ollama: let llama.cpp itself open it, too."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the policy for other programs, open it as they will, and prove that it is still the policy."""
    run_verb(
        lambda: _export(
            {
                "source": run,
                "to": to,
                "quant": quant,
                "out": out,
                "overwrite": overwrite,
                "push": push,
                "public": public,
                "dry_run": dry_run,
                "pairs": pairs,
                "check": check,
            },
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
    )


def _export(asked: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    from penchant.cli.working import say_next, working
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.export.export import Asked
        from penchant.workflow.export.export import export as run_export

        return run_export(Asked(**asked), reporter=reporter, stopper=stopper)

    found = working(work, quiet=quiet)
    if as_json:
        print(json.dumps(found))
        return
    from penchant.cli.export_view import export_text, next_lines

    print(export_text(found))
    say_next(*next_lines(found))
