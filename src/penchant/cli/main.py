"""`penchant VERB`: the command line. It loads nothing heavy until a verb runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli import (  # each adds its command
    arena_verb,  # noqa: F401
    chat_verb,  # noqa: F401
    compare_rl_verb,  # noqa: F401
    compare_verb,  # noqa: F401
    completers,
    doctor_verb,  # noqa: F401
    eval_verb,  # noqa: F401
    explain_verb,  # noqa: F401
    export_verb,  # noqa: F401
    generate_verb,  # noqa: F401
    judge_verb,  # noqa: F401
    online_verb,  # noqa: F401
    report_verb,  # noqa: F401
    sweep_verb,  # noqa: F401
    track_verb,  # noqa: F401
    ui_verb,  # noqa: F401
)
from penchant.cli.app import AllowChange, Debug, Json, Limit, Parallel, Quiet, Sets, Track, app, run_verb
from penchant.cli.bash_words import complete_as_bash_does
from penchant.cli.console import write_what_can_be_written


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", help="Run directory; by default runs/demo, runs/demo-2, ...")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="A smaller budget: shows that it works, not how well.")
    ] = False,
    controls: Annotated[
        bool,
        typer.Option("--controls", help="Also train the controls, instead of showing committed figures."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order of the pairs.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the demo in --out.")] = False,
    track: Track = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Align the bundled model offline, judge it before and after, and write a report."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.demo(
            out,
            fast=fast,
            controls=controls,
            seed=seed,
            resume=resume,
            track=track or [],
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


@app.command()
def prepare(
    data_set: Annotated[
        str,
        typer.Argument(
            metavar="DATA_SET",
            help="hh_rlhf, full_hh_rlhf, ultrafeedback, ultrafeedback_scored, orca_dpo, local, or mix.",
            autocompletion=completers.data_set,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not exist yet.")],
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="[NAME=]PATH", help="Read a file or folder instead of the Hub."),
    ] = None,
    subset: Annotated[str | None, typer.Option("--subset", help="Part of a data set on the Hub.")] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Commit on the Hub, if not the pinned one.")
    ] = None,
    mix: Annotated[
        str | None, typer.Option("--mix", metavar="A=0.7,B=0.3", help="Shares of several data sets, for `mix`.")
    ] = None,
    strong: Annotated[bool, typer.Option("--strong", help="Keep only strong preferences.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Pairs to draw, train and test together.")
    ] = None,
    exclude: Annotated[
        str | None, typer.Option("--exclude", metavar="FILE", help="List of rows left out by hand.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw and of the split.")] = 0,
    test_fraction: Annotated[
        float, typer.Option("--test-fraction", min=0, max=0.9, help="Share of prompts held out.")
    ] = 0.05,
    sets: Sets = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing when a row is broken; list them all.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="In whose tokens lengths are told too: directory, Hub id or bundled.",
            autocompletion=completers.model,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make clean pairs from a preference data set: train and test split, a ledger of every row, a card."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.prepare(
            data_set,
            out,
            source or [],
            subset,
            revision,
            mix,
            {"seed": seed, "test_fraction": test_fraction, "limit": limit, "strong": strong, "exclude": exclude},
            sets or [],
            strict=strict,
            model=model,
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


@app.command()
def inspect(
    data: Annotated[
        Path, typer.Argument(help="A prepared folder, or any file of pairs.", autocompletion=completers.data)
    ],
    row: Annotated[str | None, typer.Option("--row", help="Id or line of the pair to show.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Pairs on the page, at most.")] = 200,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Whose tokens to show: directory, Hub id, GGUF file, or bundled.",
            autocompletion=completers.model,
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page for a browser.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 when lint finds errors.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --check: warnings count like errors.")] = False,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at pairs: text, tokens by mask, what was cut, lengths, and what lint finds."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.inspect(
            data,
            row,
            split,
            model,
            html,
            sets or [],
            rows=rows,
            check=check,
            strict=strict,
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a packaged recipe, or a YAML file.", autocompletion=completers.recipe)
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Pairs: a file, or a folder with a train split.", autocompletion=completers.data
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Run directory.")],
    sets: Sets = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    allow_change: AllowChange = None,
    limit: Limit = None,
    parallel: Parallel = "ddp",
    track: Track = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train on preference pairs as a recipe says."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.train(
            recipe,
            data,
            out,
            sets or [],
            resume=resume,
            allow_changes=allow_change or [],
            limit=limit,
            parallel=parallel,
            track=track or [],
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


@app.command()
def sft(
    recipe: Annotated[
        str, typer.Argument(help="Name of a packaged recipe, or a YAML file.", autocompletion=completers.recipe)
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="A chat data set or pairs: a file, or a folder with a train split.",
            autocompletion=completers.data,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Run directory.")],
    sets: Sets = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    allow_change: AllowChange = None,
    limit: Limit = None,
    parallel: Parallel = "ddp",
    track: Track = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train the likelihood of answers: those of a chat data set, or the chosen ones of preference pairs."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.sft(
            recipe,
            data,
            out,
            sets or [],
            resume=resume,
            allow_changes=allow_change or [],
            limit=limit,
            parallel=parallel,
            track=track or [],
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


@app.command()
def align(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name of a packaged recipe with stages, or a YAML file.", autocompletion=completers.recipe
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Pairs: a file, or a folder with a train split.", autocompletion=completers.data
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the stages' run directories.")],
    sft_data: Annotated[
        Path | None,
        typer.Option(
            "--sft-data",
            help="A chat data set for the sft stages, instead of the chosen responses.",
            autocompletion=completers.data,
        ),
    ] = None,
    sets: Sets = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Pass over finished stages, go on with the interrupted one.")
    ] = False,
    limit: Limit = None,
    parallel: Parallel = "ddp",
    track: Track = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train in stages, such as SFT and then DPO, each from the model of the one before."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.align(
            recipe,
            data,
            out,
            sft_data,
            sets or [],
            resume=resume,
            limit=limit,
            parallel=parallel,
            track=track or [],
            quiet=quiet,
            as_json=as_json,
        ),
        debug,
        as_json,
    )


@app.command()
def plan(
    recipe: Annotated[
        str, typer.Argument(help="Name of a packaged recipe, or a YAML file.", autocompletion=completers.recipe)
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Pairs: a file, or a folder with a train split.", autocompletion=completers.data
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="What is to be the run directory; the run will grade the plan.")
    ] = None,
    sft_data: Annotated[
        Path | None, typer.Option("--sft-data", help="For a recipe of stages: what its sft stages train on.")
    ] = None,
    sets: Sets = None,
    limit: Limit = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict memory, seconds a step and total time of a training run, in a few seconds."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.plan(recipe, data, out, sft_data, sets or [], limit=limit, quiet=quiet, as_json=as_json),
        debug,
        as_json,
    )


@app.command()
def score(
    model: Annotated[
        str,
        typer.Option("--model", help="Directory, Hub id, GGUF file, or bundled.", autocompletion=completers.model),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Pairs: a file, or a folder with a single one.", autocompletion=completers.data
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Scores, one JSON line a pair.")],
    ids: Annotated[bool, typer.Option("--ids", help="Also write the token ids that were scored.")] = False,
    sets: Sets = None,
    limit: Limit = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the log-probabilities of chosen and rejected responses under a model (fp32 unless set otherwise)."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.score(model, data, out, sets or [], ids=ids, limit=limit, quiet=quiet, as_json=as_json),
        debug,
        as_json,
    )


@app.command("verify-resume")
def verify_resume(
    run: Annotated[Path, typer.Argument(help="A run directory with checkpoints.", autocompletion=completers.run)],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Its pairs, if they are elsewhere now.", autocompletion=completers.data),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take a run's last steps once more, elsewhere, and demand the same bytes."""
    from penchant.cli import commands

    run_verb(lambda: commands.verify_resume(run, data, quiet=quiet, as_json=as_json), debug, as_json)


@app.command("make-pairs")
def make_pairs(
    out: Annotated[Path, typer.Option("--out", help="Folder for samples.jsonl and pairs.jsonl.")],
    questions: Annotated[
        str,
        typer.Option(
            "--questions",
            help="train, validation, test, or a file with id and question.",
            autocompletion=completers.questions,
        ),
    ] = "train",
    model: Annotated[
        str, typer.Option("--model", help="Whose answers.", autocompletion=completers.model)
    ] = "bundled",
    samples: Annotated[int, typer.Option("--samples", min=2, help="Answers to each question.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampling.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make on-policy pairs for the house style: sample, judge, pair."""
    from penchant.cli import commands

    run_verb(
        lambda: commands.make_pairs(
            out, questions, model, samples=samples, seed=seed, quiet=quiet, as_json=as_json
        ),
        debug,
        as_json,
    )


@app.command()
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Print the YAML of this one, to read or to edit.", autocompletion=completers.packaged_recipe
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the packaged recipes: what each is, starts from, trains and needs."""
    from penchant.cli import recipe_commands

    run_verb(lambda: recipe_commands.recipes(name, quiet=quiet, as_json=as_json), debug, as_json)


@app.command()
def migrate(
    file: Annotated[
        Path,
        typer.Argument(help="YAML of TRL, axolotl or LLaMA-Factory.", autocompletion=completers.recipe_file),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Recipe to write; without it, it goes to standard output.")
    ] = None,
    tool: Annotated[
        str | None,
        typer.Option("--from", help="trl, axolotl or llamafactory; without it, by the keys of the file."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices", "--gpus", min=1, help="Devices that the file was written for; 1 unless it says so."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn a configuration of TRL, axolotl or LLaMA-Factory into a recipe, and list what it cannot express."""
    from penchant.cli import recipe_commands

    run_verb(
        lambda: recipe_commands.migrate(file, out, tool, devices, quiet=quiet, as_json=as_json), debug, as_json
    )


@app.command()
def losses(
    markdown: Annotated[bool, typer.Option("--markdown", help="The tables of docs/losses.md.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the losses: equation, value at the reference, beta's meaning, options, source."""
    from penchant.cli import commands

    run_verb(lambda: commands.losses(markdown=markdown, quiet=quiet, as_json=as_json), debug, as_json)


def main() -> None:
    """Entry point of the `penchant` command."""
    write_what_can_be_written(sys.stdout, sys.stderr)
    complete_as_bash_does(lambda: app(prog_name="penchant"))
