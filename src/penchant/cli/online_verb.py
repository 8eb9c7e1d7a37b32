"""`penchant online`: options in, rounds of figures out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from penchant.cli import completers
from penchant.cli.answer_options import (
    AnswersPerPrompt,
    CleanSide,
    HeldOutPrompts,
    LongestByRecipe,
    OwnAnswerOptions,
    PairChoice,
    PairsPerPrompt,
    PromptSource,
    System,
    Temperature,
    TopK,
    TopP,
)
from penchant.cli.app import Debug, Json, Quiet, Sets, Track, app, run_verb

COLUMNS = ("round", "{rate}", "p to start", "p to before", "tokens", "pairs", "words", "KL")


@app.command()
def online(
    recipe: Annotated[
        str, typer.Argument(help="Name of a packaged recipe, or a YAML file.", autocompletion=completers.recipe)
    ],
    prompts: PromptSource,
    judge: Annotated[
        str,
        typer.Option(
            "--judge", help="Who scores the answers, such as house-style.", autocompletion=completers.judge
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the rounds.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How many in all.")] = 3,
    held_out: HeldOutPrompts = None,
    system: System = None,
    samples: AnswersPerPrompt = 8,
    temperature: Temperature = 1.0,
    top_k: TopK = 50,
    top_p: TopP = 0.95,
    max_new_tokens: LongestByRecipe = None,
    prompts_per_round: Annotated[
        int | None, typer.Option("--prompts-per-round", min=1, help="By default an equal part of all.")
    ] = None,
    tokens_per_round: Annotated[
        int | None, typer.Option("--tokens-per-round", min=1, help="Sample until so many tokens are generated.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Each round asks the same prompts, instead of fresh ones.")
    ] = False,
    pairs: PairChoice = "best-worst",
    pairs_per_prompt: PairsPerPrompt = 2,
    margin: Annotated[
        float, typer.Option("--margin", min=0, help="Scores no further apart are a tie, and make no pair.")
    ] = 0.0,
    clean: CleanSide = "chosen",
    reference: Annotated[
        str,
        typer.Option(
            "--reference",
            help="moved: a round's start policy; fixed: the first model.",
            autocompletion=completers.word_of("moved", "fixed"),
        ),
    ] = "moved",
    replay: Annotated[
        float, typer.Option("--replay", min=0, help="Earlier rounds' pairs added, as a share of the round's own.")
    ] = 0.0,
    passes_at: Annotated[
        float | None, typer.Option("--passes-at", help="Score from which an answer passes, if not the judge's.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of prompts, sampling and replay.")] = 0,
    sets: Sets = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the loop in --out.")] = False,
    track: Track = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Sample from the model, judge, make pairs, train, evaluate, and go round again."""
    options = {
        "rounds": rounds,
        "prompts_per_round": prompts_per_round,
        "tokens_per_round": tokens_per_round,
        "again": again,
        "reference": reference,
        "replay": replay,
    }
    answers = OwnAnswerOptions(
        samples=samples,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        pairs=pairs,
        pairs_per_prompt=pairs_per_prompt,
        clean=clean,
        seed=seed,
        margin=margin,
    )
    named = {"prompts": prompts, "held_out": held_out, "system": system, "judge": judge}
    run_verb(
        lambda: _online(
            recipe,
            out,
            named,
            options,
            answers,
            passes_at,
            sets or [],
            resume=resume,
            track=track or [],
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


def _online(
    recipe: str,
    out: Path,
    named: Mapping[str, Any],
    options: Mapping[str, Any],
    answers: OwnAnswerOptions,
    passes_at: float | None,
    sets: Sequence[str],
    *,
    resume: bool,
    track: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> None:
    from penchant.cli.working import say_next, working
    from penchant.recipes import load_recipe
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper

    config = load_recipe(recipe, sets)

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.reporting.online_page import write_online_page
        from penchant.workflow.online.judging import judge_named, mark_of
        from penchant.workflow.online.prompts import named_prompts, parted
        from penchant.workflow.online.rounds import run_online
        from penchant.workflow.online.settings import OnlineSettings

        settings = OnlineSettings(**options, **answers.settings(config))
        judge = judge_named(named["judge"])
        ours = named_prompts(named["prompts"], named["system"])
        theirs = None if named["held_out"] is None else named_prompts(named["held_out"], named["system"])
        found = run_online(
            config,
            settings,
            *parted(ours, theirs, seed=settings.seed),
            judge,
            out,
            mark=mark_of(judge) if passes_at is None else passes_at,
            resume=resume,
            reporter=reporter,
            stopper=stopper,
        )
        write_online_page(out, found)
        return found

    state = working(work, quiet=quiet, again=[["--resume"]], track=track)
    if as_json:
        print(json.dumps(state))
        return
    for line in round_lines(state["rounds"]):
        print(line)
    last = out / f"round-{len(state['rounds']) - 1}" / "train"
    say_next(
        f"Report   {out / 'report.html'}",
        f"Model    {last / 'model'} (opens with transformers)",
        f"Next     penchant eval {last} --data YOUR_HELD_OUT_PAIRS.jsonl",
        quiet=quiet,
    )


def round_lines(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of a loop's rounds, a line each, figures right-aligned under their heads."""
    passes = rounds[0]["passes_at"] is not None
    heads = [column.format(rate="passes" if passes else "wins") for column in COLUMNS]
    cells = [heads, *map(_cells, rounds)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    what = "in the held-out prompts that pass" if passes else "wins over the start on held-out prompts, ties half"
    return [*lines, f"{rounds[0]['held_out']} held-out prompts; 95% intervals (Wilson) {what}; exact McNemar p."]


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        str(row["round"]),
        _rate(row),
        _p(row.get("p_against_start")),
        _p(row.get("p_against_previous")),
        f"{row['tokens_in_all']:,}",
        str(row["pairs"]),
        f"{row['mean_words']:.0f}",
        f"{row['kl_to_reference']:.3f}",
    ]


def _rate(row: Mapping[str, Any]) -> str:
    if row["rate"] is None:
        return "-"
    low, high = row["rate_interval"]
    return f"{100 * row['rate']:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
