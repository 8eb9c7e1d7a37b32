"""`penchant compare-rl`: options in, a table of DPO beside policy gradients out."""

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
from penchant.cli.app import Debug, Json, Quiet, Sets, app, run_verb
from penchant.cli.working import say_next, working

COLUMNS = (
    "method",
    "{rate}",
    "p to start",
    "p to online",
    "KL",
    "seconds",
    "memory",
    "generated",
    "trained",
    "steps",
    "words",
)


@app.command("compare-rl")
def compare_rl(
    recipe: Annotated[
        str, typer.Argument(help="Name of a packaged recipe, or a YAML file.", autocompletion=completers.recipe)
    ],
    prompts: PromptSource,
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            metavar="RULE",
            help="What scores answers, and is the reward: house-style, ...",
            autocompletion=completers.judge,
        ),
    ],
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Generated tokens of each method.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the comparison.")],
    held_out: HeldOutPrompts = None,
    system: System = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="A,B", help="Of dpo, online, grpo and rloo.")
    ] = "dpo,online,grpo,rloo",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Of online DPO.")] = 3,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            "--learning-rates",
            metavar="A,B",
            help="Of GRPO and RLOO; of several the best by prompts kept back. Default: the recipe's and a tenth.",
        ),
    ] = None,
    kl_beta: Annotated[
        float | None, typer.Option("--kl-beta", min=0, help="Of GRPO and RLOO; by default TRL's 0 and 0.05.")
    ] = None,
    prompts_per_step: Annotated[
        int | None,
        typer.Option("--prompts-per-step", min=1, help="Of GRPO and RLOO; by default train.batch_pairs."),
    ] = None,
    samples: AnswersPerPrompt = 8,
    temperature: Temperature = 1.0,
    top_k: TopK = 50,
    top_p: TopP = 0.95,
    max_new_tokens: LongestByRecipe = None,
    pairs: PairChoice = "best-worst",
    pairs_per_prompt: PairsPerPrompt = 2,
    clean: CleanSide = "chosen",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of prompts and sampling.")] = 0,
    sets: Sets = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the comparison in --out.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare DPO and online DPO with GRPO and RLOO at equal generated tokens (needs the extra `bench`)."""
    options = {
        "tokens": tokens,
        "rounds": rounds,
        "kl_beta": kl_beta,
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
    )
    names = {"prompts": prompts, "held_out": held_out, "system": system, "judge": judge}
    run_verb(
        lambda: _compare_rl(
            recipe,
            out,
            names,
            options,
            answers,
            prompts_per_step,
            (methods, learning_rates),
            sets or [],
            resume=resume,
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


def _compare_rl(
    recipe: str,
    out: Path,
    names: Mapping[str, str | None],
    options: Mapping[str, Any],
    answers: OwnAnswerOptions,
    prompts_per_step: int | None,
    asked_arms: tuple[str, str | None],
    sets: Sequence[str],
    *,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from penchant.recipes import load_recipe
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.stopping import Stopper

    config = load_recipe(recipe, sets)
    methods = [name.strip() for name in asked_arms[0].split(",") if name.strip()]
    own_rate = config.train.learning_rate
    rates = [own_rate / 10, own_rate] if asked_arms[1] is None else _numbers(asked_arms[1])

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.compare_rl.asked import RlSettings, arms_of, asked_for
        from penchant.workflow.compare_rl.compare import compare_rl

        arms = arms_of(methods, rates)
        settings = RlSettings(
            **options,
            **answers.settings(config),
            prompts_per_step=prompts_per_step or config.train.batch_pairs,
            choice_prompts=len(rates) > 1,
        )
        asked = asked_for(config, settings, names)
        return compare_rl(asked, arms, out, resume=resume, reporter=reporter, stopper=stopper)

    found = working(work, quiet=quiet, again=[["--resume"]])
    if as_json:
        print(json.dumps(found))
        return
    for line in table_lines(found):
        print(line)
    say_next(
        f"Figures  {out / 'compare.json'}, with every learning rate that was tried",
        f"Next     penchant chat {out / found['rows'][-1]['name'] / found['rows'][-1]['model']}",
        quiet=quiet,
    )


def _numbers(text: str) -> list[float]:
    from penchant.errors import UsageError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{text[:80]!r} are no numbers", where="--learning-rates", fix="Write 1e-6,1e-5."
        ) from None


def table_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the table of a comparison, a line a method, and below it what its figures are."""
    rows = found["rows"]
    passes = rows[0]["passes_at"] is not None
    heads = [column.format(rate="passes" if passes else "wins") for column in COLUMNS]
    cells = [heads, *map(_cells, rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(pairs)
        )
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    ]
    what = "in the held-out prompts that pass" if passes else "wins over the start on held-out prompts, ties half"
    return [
        *lines,
        f"{found['held_out']} held-out prompts; 95% intervals (Wilson) {what}; exact McNemar p, not adjusted for "
        "the number of tests; KL to the start in nats a token on ordinary prose.",
        f"At most {found['tokens']:,} generated tokens each, but for the last step's or prompt's. Seconds and "
        "peak memory are those of sampling, judging and training in a process of its own.",
        *found["notes"],
    ]


def _cells(row: Mapping[str, Any]) -> list[str]:
    rate, low, high = (100 * value for value in (row["rate"], *row["rate_interval"]))
    title = row["title"] if row.get("learning_rate") is None else f"{row['title']} at {row['learning_rate']:g}"
    return [
        title,
        f"{rate:.1f}% [{low:.1f}, {high:.1f}]",
        _told(row.get("p_against_start"), ".2g"),
        _told(row.get("p_against_online"), ".2g"),
        f"{row['kl_to_reference']:.3f}",
        _told(row.get("seconds"), ".0f"),
        "" if row.get("peak_memory_bytes") is None else f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
        _told(row.get("generated_tokens"), ","),
        _told(row.get("training_tokens"), ","),
        _told(row.get("steps"), ","),
        f"{row['mean_words']:.0f}",
    ]


def _told(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
