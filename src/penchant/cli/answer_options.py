"""The options of verbs that make a model answer: how tokens are drawn, and whose answers become pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant.cli import completers

if TYPE_CHECKING:
    from penchant.config import Config

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


@dataclass(frozen=True)
class OwnAnswerOptions:
    """What verbs that train on a model's own answers are told of these, as it was typed.

    Attributes:
        samples: Answers a prompt.
        temperature: Of the sampling.
        top_k: Likewise.
        top_p: Likewise.
        max_new_tokens: Longest answer; None = that of the recipe's evaluation.
        pairs: Which two answers make a pair.
        pairs_per_prompt: At most.
        clean: Which side no broken answer may stand on.
        seed: Of prompts and sampling.
        margin: Scores no further apart make no pair.
    """

    samples: int
    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int | None
    pairs: str
    pairs_per_prompt: int
    clean: str
    seed: int
    margin: float = 0.0

    def settings(self, config: Config) -> dict[str, Any]:
        """Return the arguments of `penchant.workflow.online.own_answers.OwnAnswers`.

        Args:
            config: The recipe's.

        Raises:
            UsageError: A rule of the pairs is none.
        """
        from penchant.data.on_policy_pairs import PairRules

        rules: dict[str, Any] = {"choice": self.pairs, "clean": self.clean}
        return {
            "samples": self.samples,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens or config.eval.max_new_tokens,
            "rules": PairRules(**rules, per_prompt=self.pairs_per_prompt, margin=self.margin),
            "seed": self.seed,
        }
