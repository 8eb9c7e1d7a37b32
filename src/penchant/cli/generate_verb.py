"""`penchant generate`: ask a model something, or all prompts of a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant.cli import completers
from penchant.cli.answer_options import LongestAnswer, MinP, System, Temperature, TopK, TopP
from penchant.cli.app import Debug, Json, Limit, Quiet, Sets, app, run_verb
from penchant.cli.console import printable
from penchant.cli.working import say_next, working
from penchant.errors import UsageError

if TYPE_CHECKING:
    from penchant.endpoint.client import Endpoint
    from penchant.workflow.generate import Wanted
    from penchant.workflow.reporter import Reporter
    from penchant.workflow.speaker import Speaker
    from penchant.workflow.stopping import Stopper


@app.command()
def generate(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Directory, Hub id, GGUF file, run directory, or bundled. None with --endpoint.",
            autocompletion=completers.model,
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Argument(help="What to ask; or --prompts.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="File of prompts to answer: .jsonl, .csv, .parquet, or .txt with one a line.",
            autocompletion=completers.data,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Answers to --prompts, one JSON line each.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out where it ends.")] = False,
    system: System = None,
    max_new_tokens: LongestAnswer = 256,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Answers to each prompt.")] = 1,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampling.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="Ends an answer, which holds it no more.")
    ] = None,
    batch_rows: Annotated[int, typer.Option("--batch-rows", min=1, help="Answers made at a time.")] = 64,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="URL", help="Ask this server instead: vLLM or any OpenAI-compatible one."
        ),
    ] = None,
    served_model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="With --endpoint: what it calls the model.")
    ] = None,
    key_variable: Annotated[
        str, typer.Option("--key-variable", metavar="NAME", help="Environment variable with the endpoint's key.")
    ] = "OPENAI_API_KEY",
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Requests to the endpoint under way.")] = 8,
    limit: Limit = None,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask a model something, or all prompts of a file."""

    def work() -> None:
        from penchant.types import Sampling
        from penchant.workflow.generate import Wanted

        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
        wanted = Wanted(max_new_tokens, samples, sampling, tuple(stop or ()), batch_rows)
        question = prompt
        if endpoint is not None:  # then there is no model to name before the question
            if prompt is not None:
                raise UsageError(
                    "--endpoint is asked instead of a model", fix="Name its model with --model, and none before."
                )
            question = model
        who = _Who(model, endpoint, served_model, key_variable, at_once, sets or [])
        if prompts is None:
            _ask(who, question, wanted, system, out=out, resume=resume, as_json=as_json)
        else:
            options = {"system": system, "limit": limit, "resume": resume}
            _answer_file(who, question, prompts, out, wanted, options, quiet=quiet, as_json=as_json)

    run_verb(work, debug, as_json)


class _Who:
    """Who is asked: a model here, or one behind an endpoint."""

    def __init__(
        self,
        model: str | None,
        endpoint: str | None,
        served_model: str | None,
        key_variable: str,
        at_once: int,
        sets: list[str],
    ) -> None:
        if endpoint is None and model is None:
            raise UsageError("it is not said which model", fix="penchant generate MODEL ...")
        if (endpoint is None) != (served_model is None):
            raise UsageError(
                "--endpoint and --model go together", fix="penchant generate --endpoint URL --model NAME"
            )
        self._model, self._sets = model or "", sets
        self._endpoint, self._served_model = endpoint, served_model or ""
        self._key_variable, self._at_once = key_variable, at_once

    def load(self) -> Speaker | Endpoint:
        if self._endpoint is not None:
            from penchant.endpoint.client import Endpoint

            return Endpoint(
                self._endpoint, self._served_model, key_variable=self._key_variable, at_once=self._at_once
            )
        from penchant.workflow.speaker import load_speaker, speaker_config

        return load_speaker(self._model, speaker_config(self._model, self._sets))


def _ask(
    who: _Who,
    question: str | None,
    wanted: Wanted,
    system: str | None,
    *,
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    if question is None:
        raise UsageError(
            "it is not said what to ask", fix="Write the question behind the model, or name --prompts."
        )
    if out is not None or resume:
        raise UsageError("--out and --resume belong to --prompts", fix="One answer is printed.")
    asked = question

    def work(reporter: Reporter, stopper: Stopper) -> list[dict[str, Any]]:
        from penchant.workflow.generate import ask

        return ask(who.load(), asked, wanted, system=system, reporter=reporter, stopper=stopper)

    for answer in working(work, quiet=True):
        print(json.dumps(answer) if as_json else printable(answer["text"]))
        if not answer["finished"]:
            print("(cut off; --max-new-tokens lets it go on)", file=sys.stderr)


def _answer_file(
    who: _Who,
    question: str | None,
    prompts: Path,
    out: Path | None,
    wanted: Wanted,
    options: dict[str, Any],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    if question is not None:
        raise UsageError("a question and --prompts", fix="Give one of the two.")
    if out is None:
        raise UsageError("it is not said where the answers go", fix="Name a file with --out.")
    path = out

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.generate import generate_file

        return generate_file(who.load(), prompts, path, wanted, reporter=reporter, stopper=stopper, **options)

    figures = working(work, quiet=quiet, again=[["--resume"]], several=True)
    if as_json:
        print(json.dumps(figures))
        return
    made = figures["answers"] - figures["kept"]
    kept = f" {figures['kept']} were there already." if figures["kept"] else ""
    print(
        f"\n{made} answers to {figures['prompts']} prompts, {figures['tokens']} tokens in "
        f"{figures['seconds']:.0f} s; {figures['unfinished']} were cut off.{kept}"
    )
    say_next(
        f"Answers  {path}",
        f"Next     penchant judge JUDGE --answers {path} judges them, where each row has answers of two models",
        quiet=quiet,
    )
