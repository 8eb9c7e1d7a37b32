"""`penchant eval`: models and runs side by side with their reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant.cli import completers
from penchant.cli.app import Debug, Json, Limit, Quiet, Sets, app, run_verb
from penchant.errors import UsageError

if TYPE_CHECKING:
    from penchant.workflow.suites.chosen import Wanted


@app.command("eval")
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_RUN...",
            help="Run directories, or models with --reference.",
            autocompletion=completers.model,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Held-out pairs: a file, or a folder with a test split.", autocompletion=completers.data
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="What to compare with; of runs what the first one started from.",
            autocompletion=completers.model,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="Free prompts, MT-Bench included: quality of the answers.",
            autocompletion=completers.data,
        ),
    ] = None,
    harmful: Annotated[
        Path | None, typer.Option("--harmful", help="Prompts that should be refused, such as AdvBench.")
    ] = None,
    safe: Annotated[Path | None, typer.Option("--safe", help="Prompts that should be answered.")] = None,
    xstest: Annotated[
        Path | None, typer.Option("--xstest", help="Prompts whose label says which of the two they are.")
    ] = None,
    truthfulqa: Annotated[
        Path | None, typer.Option("--truthfulqa", help="TruthfulQA's CSV or multiple-choice file; hub fetches it.")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option("--instructions", help="Verifiable instructions in the layout of IFEval.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option("--text", help="Held-back text, blank lines between paragraphs: perplexity.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Who compares answers to --prompts: longer, reward:MODEL, llm:MODEL@URL, ... (docs).",
            autocompletion=completers.judge,
        ),
    ] = None,
    house_style: Annotated[
        bool, typer.Option("--house-style", help="Also answer the demo's test questions and judge the style.")
    ] = False,
    lm_eval: Annotated[
        str | None,
        typer.Option("--lm-eval", metavar="TASK,...", help="Tasks of lm-evaluation-harness (extra eval)."),
    ] = None,
    lm_eval_folder: Annotated[
        Path | None, typer.Option("--lm-eval-folder", help="Holds tasks of that kind of your own, as YAML.")
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            help="Only this one; again for more. all: what there is data for.",
            autocompletion=completers.suite,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Longest generated answer, tokens.")
    ] = None,
    batch_rows: Annotated[
        int | None, typer.Option("--batch-rows", min=1, help="Answers at a time; no figure depends on it in fp32.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the figures go; by default to the last run that is named.")
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Also print the lines by type and kind.")] = False,
    sets: Sets = None,
    limit: Limit = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Judge models against their reference, side by side, with an interval and a paired test on every line."""
    options = {"eval.max_new_tokens": max_new_tokens, "eval.batch_rows": batch_rows}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]

    def work() -> None:
        from penchant.workflow.suites.chosen import Wanted

        wanted = Wanted(
            data=data,
            prompts=prompts,
            harmful=harmful,
            safe=safe,
            xstest=xstest,
            truthfulqa=truthfulqa,
            instructions=instructions,
            text=text,
            house_style=house_style,
            lm_eval=[task for task in (lm_eval or "").split(",") if task],
            lm_eval_folder=lm_eval_folder,
            limit=limit,
        )
        _evaluate(
            models,
            wanted,
            reference,
            out,
            [*(sets or []), *given],
            suite or [],
            judge,
            details=details,
            quiet=quiet,
            as_json=as_json,
        )

    run_verb(work, debug, as_json)


def _evaluate(
    models: Sequence[str],
    wanted: Wanted,
    reference: str | None,
    out: Path | None,
    sets: Sequence[str],
    names: Sequence[str],
    judge: str | None,
    *,
    details: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from rich.console import Console

    from penchant.cli.eval_view import show_comparison
    from penchant.cli.working import say_next, working
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper
    from penchant.workflow.suites.chosen import check_wanted

    check_wanted(wanted, names)
    if judge is not None and wanted.prompts is None:
        raise UsageError("--judge is not used without --prompts", fix="Give prompts, or remove it.")

    def work(reporter: Reporter, stopper: Stopper) -> tuple[dict[str, Any], dict[str, Any], Path | None]:
        from penchant.workflow.eval_models import eval_models

        return eval_models(
            models,
            wanted,
            names,
            judge=judge,
            reference=reference,
            out=out,
            overrides=sets,
            reporter=reporter,
            stopper=stopper,
        )

    figures, comparison, target = working(work, quiet=quiet, several=True)
    if as_json:
        print(json.dumps({**figures, "comparison": comparison}))
        return
    console = Console(soft_wrap=False)
    console.print()
    show_comparison(comparison, console, details=details)
    if target is None:
        say_next("Next     the same with --out FOLDER keeps the figures", quiet=quiet)
        return
    say_next(
        f"Page     {target / 'eval' / 'comparison.html'}",
        f"Figures  {target / 'eval' / 'comparison.json'}",
        *([f"Answers  {target / 'eval' / 'answers'}"] if (target / "eval" / "answers").is_dir() else []),
        f"Next     penchant report {target}"
        if (target / "metrics.jsonl").is_file()
        else "Next     the same with --details shows every line",
        quiet=quiet,
    )
