"""`penchant judge`: which of two models answers better, and how far the judge can be trusted."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penchant.cli import completers
from penchant.cli.app import Debug, Json, Limit, Quiet, app, run_verb
from penchant.cli.working import say_next, working
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper

_PRICE = "For a million tokens of {}, in any currency."


@app.command()
def judge(
    judge: Annotated[
        str,
        typer.Argument(
            metavar="JUDGE",
            help="house-style, instructions, longer, random, reward:MODEL, implicit, llm:MODEL@URL, "
            "llm-grade:MODEL@URL, or votes:FILE.",
            autocompletion=completers.judge,
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers",
            help="Rows with a prompt and two answers, policy and reference; or a run.",
            autocompletion=completers.data,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Preference pairs instead: how far does the judge agree with them?"),
    ] = None,
    votes: Annotated[
        Path | None, typer.Option("--votes", help="Human votes on these answers, to compare the judge with.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for judge.json and judgements.jsonl.")] = None,
    policy: Annotated[str, typer.Option("--policy", help="Model of `implicit`; by default the run's.")] = "",
    reference: Annotated[str, typer.Option("--reference", help="What it is compared with; likewise.")] = "",
    beta: Annotated[float | None, typer.Option("--beta", min=0, help="Of `implicit`; likewise.")] = None,
    device: Annotated[str, typer.Option("--device", help="Where models compute: auto, cpu, cuda.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of `random`.")] = 0,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="Environment variable that holds the endpoint's key.")
    ] = "OPENAI_API_KEY",
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Send key and texts unencrypted to another machine.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="File of kept verdicts; by default one in the cache folder.")
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option("--requests-per-minute", min=0.01, help="To the endpoint, at most.")
    ] = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Requests under way at a time.")] = 4,
    max_requests: Annotated[
        int | None, typer.Option("--max-requests", min=0, help="Stop before more are sent, retries included.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=0, help="Stop before more are used, prompts and replies.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", min=0, help="Stop before it costs more; needs both prices.")
    ] = None,
    prompt_price: Annotated[
        float | None, typer.Option("--prompt-price", min=0, help=_PRICE.format("prompts"))
    ] = None,
    completion_price: Annotated[
        float | None, typer.Option("--completion-price", min=0, help=_PRICE.format("replies"))
    ] = None,
    limit: Limit = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Judge two models' answers in both orders: a win rate, and how far the judge can be trusted."""

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.endpoint.budget import Budget
        from penchant.endpoint.client import Endpoint
        from penchant.evaluation.judges.parse import JudgeSetting
        from penchant.models.bundled import cache_directory
        from penchant.models.precision import choose_device
        from penchant.workflow.judge import JudgeOptions, judge_answers, write_judgement

        connect = functools.partial(
            Endpoint,
            key_variable=key_variable,
            requests_per_minute=requests_per_minute,
            at_once=at_once,
            allow_http=allow_http,
            budget=Budget(max_requests, max_tokens, max_cost, prompt_price, completion_price),
            cache=cache or cache_directory() / "endpoint" / "answers.sqlite",
        )
        setting = JudgeSetting(
            policy=policy, reference=reference, device=choose_device(device), seed=seed, connect=connect
        )
        options = JudgeOptions(answers, votes, limit, setting, beta, pairs)
        figures, rows = judge_answers(judge, options, reporter=reporter, stopper=stopper)
        if out is not None:
            write_judgement(out, figures, rows)
        return figures

    run_verb(lambda: _show(working(work, quiet=quiet), out, quiet=quiet, as_json=as_json), debug, as_json)


def _show(figures: dict[str, Any], out: Path | None, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    from penchant.cli.judge_view import describe_judgement

    print(f"\n{describe_judgement(figures)}")
    if out is None:
        say_next("Next     the same command with --out FOLDER, which keeps every verdict", quiet=quiet)
    else:
        say_next(
            f"Figures  {out / 'judge.json'}",
            f"Verdicts {out / 'judgements.jsonl'}, with the judge's reasons",
            "Next     the same command with --votes FILE compares the judge with people",
            quiet=quiet,
        )
