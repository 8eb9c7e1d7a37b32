"""`penchant chat`: talk to a policy and its reference side by side."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from penchant.cli import completers
from penchant.cli.answer_options import LongestAnswer, MinP, System, Temperature, TopK, TopP
from penchant.cli.app import Debug, Json, Quiet, Sets, app, run_verb
from penchant.errors import UsageError


@app.command()
def chat(
    model: Annotated[
        str,
        typer.Argument(
            help="Directory, Hub id, GGUF file, run directory, or bundled.", autocompletion=completers.model
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="Model to show beside it; of a run, by default its reference.",
            autocompletion=completers.model,
        ),
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="No reference, also with a run.")] = False,
    system: System = None,
    max_new_tokens: LongestAnswer = 512,
    temperature: Temperature = 0.7,
    top_k: TopK = 0,
    top_p: TopP = 0.9,
    min_p: MinP = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampling.")] = 0,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Talk to a model, a run's policy beside its reference; /help in the chat says what else there is."""

    def work() -> None:
        from penchant.cli.chat_view import talk
        from penchant.cli.console import make_reporter
        from penchant.cli.quiet_libraries import quiet_libraries
        from penchant.types import Sampling
        from penchant.workflow.chat import ChatSession, load_speakers

        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("this command is the work of one process", fix="Start it without torchrun.")
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
        quiet_libraries()  # and no Stopper: Ctrl+C ends an answer, or the chat, at once
        speakers = load_speakers(
            model, reference, alone=alone, overrides=sets or [], reporter=make_reporter(quiet=quiet)
        )
        session = ChatSession(speakers, sampling=sampling, max_new_tokens=max_new_tokens, system=system)
        talk(session, as_json=as_json)

    run_verb(work, debug, as_json)
