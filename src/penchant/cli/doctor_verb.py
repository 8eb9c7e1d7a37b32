"""`penchant doctor`: what this machine and this installation are fit for."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from penchant.cli.app import Debug, Json, Quiet, app, run_verb


@app.command()
def doctor(
    block: Annotated[
        bool, typer.Option("--block", help="Plain text to paste into a question, without keys and home folder.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Try out versions, devices, kernels, disk and models, and say what needs mending (exit code 1)."""
    run_verb(lambda: _doctor(block=block, quiet=quiet, as_json=as_json), debug, as_json)


def _doctor(*, block: bool, quiet: bool, as_json: bool) -> None:
    from rich.console import Console

    from penchant.cli.console import make_reporter
    from penchant.cli.doctor_view import findings_block, fit, plain_findings, show_findings
    from penchant.cli.quiet_libraries import quiet_libraries
    from penchant.cli.working import say_next

    quiet_libraries()
    reporter = make_reporter(quiet=quiet)
    reporter.note("Looking at this machine; loading torch takes a few seconds")
    from penchant.workflow import doctor as looked

    findings = looked.examine(reporter)
    if as_json:
        print(json.dumps(plain_findings(findings)))
    elif block:
        print(findings_block(findings))
    else:
        show_findings(findings, Console(soft_wrap=False, highlight=False))
    if not fit(findings):
        raise SystemExit(1)
    if not as_json and not block:
        say_next(
            "Next     penchant demo",
            "         penchant plan RECIPE --data PAIRS.jsonl says what a run would need",
            "         penchant doctor --block is what to paste into a question",
            quiet=quiet,
        )
