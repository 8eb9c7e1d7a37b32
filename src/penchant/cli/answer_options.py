"""The options of verbs that make a model answer: how tokens are drawn, and whose answers become pairs."""

from __future__ import annotations

from typing import Annotated

import typer

from penchant.cli import completers

System = Annotated[str | None, typer.Option("--system", help="A system message before prompts without one.")]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0, help="Of the sampling; 0 = the likeliest token.")
]
TopK = Annotated[int, typer.Option("--top-k", min=0, help="Draw from so many likeliest tokens; 0 = from all.")]
TopP = Annotated[
    float, typer.Option("--top-p", help="Draw from the likeliest tokens that hold this share of probability.")
]
MinP = Annotated[
    float, typer.Option("--min-p", help="Draw from tokens at least this share as likely as the likeliest.")
]
LongestAnswer = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, tokens.")]

# Of verbs that train on what a model answers.
PromptSource = Annotated[
    str,
    typer.Option(
        "--prompts",
        help="File of prompts, or house-style:train for the packaged questions.",
        autocompletion=completers.prompts,
    ),
]
HeldOutPrompts = Annotated[
    str | None,
    typer.Option(
        "--held-out",
        help="Prompts to measure by, likewise; without them a fifth is held out.",
        autocompletion=completers.prompts,
    ),
]
AnswersPerPrompt = Annotated[int, typer.Option("--samples", min=2, help="Answers a prompt.")]
LongestByRecipe = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer; by default eval.max_new_tokens.")
]
PairChoice = Annotated[
    str,
    typer.Option(
        "--pairs",
        metavar="RULE",
        help="best-worst, nearest-length or all.",
        autocompletion=completers.word_of("best-worst", "nearest-length", "all"),
    ),
]
PairsPerPrompt = Annotated[int, typer.Option("--pairs-per-prompt", min=1, help="At most.")]
CleanSide = Annotated[
    str,
    typer.Option(
        "--clean",
        metavar="SIDE",
        help="No broken answer on this side: chosen, both or none.",
        autocompletion=completers.word_of("chosen", "both", "none"),
    ),
]
