"""What a loop of rounds is asked to do, as values; and what its folder says of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from penchant.config import Config
from penchant.errors import UsageError, did_you_mean
from penchant.types import Prompt
from penchant.workflow.online.own_answers import OwnAnswers, check_ranges

ReferenceChoice = Literal["moved", "fixed"]
REFERENCES: tuple[ReferenceChoice, ...] = get_args(ReferenceChoice)


@dataclass(frozen=True)
class OnlineSettings(OwnAnswers):
    """The options of a loop, beside those of `OwnAnswers`; its seed is that of the replay, too.

    Attributes:
        rounds: How many.
        prompts_per_round: How many prompts a round takes; None = an equal part of all, or what the budget allows.
        tokens_per_round: A round takes prompts until their answers have so many tokens; None = no budget.
        again: Every round begins with the first prompt, instead of where the round before ended.
        reference: "moved": each round's is its start policy; "fixed": the first model, in every round.
        replay: Pairs of earlier rounds added to a round's own, as a share of their number, at least 0.

    Raises:
        UsageError: A value is out of its range.
    """

    rounds: int
    prompts_per_round: int | None = None
    tokens_per_round: int | None = None
    again: bool = False
    reference: ReferenceChoice = "moved"
    replay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference not in REFERENCES:
            hint = did_you_mean(self.reference, REFERENCES)
            raise UsageError(f'"{self.reference}" is none of {", ".join(REFERENCES)}.{hint}', where="--reference")
        check_ranges(
            ("--rounds", self.rounds, self.rounds >= 1, "at least 1"),
            ("--replay", self.replay, self.replay >= 0, "at least 0"),
            ("--prompts-per-round", self.prompts_per_round, (self.prompts_per_round or 1) >= 1, "at least 1"),
            ("--tokens-per-round", self.tokens_per_round, (self.tokens_per_round or 1) >= 1, "at least 1"),
        )


def identity(
    config: Config, settings: OnlineSettings, judge: str, prompts: Sequence[Prompt], held_out: Sequence[Prompt]
) -> dict[str, Any]:
    """Return what two calls must have in common to work on the same loop, but for the number of rounds."""
    asked = asdict(settings)
    del asked["rounds"]  # more of them may be asked for later
    if settings.prompts_per_round is None and settings.tokens_per_round is None and not settings.again:
        asked["rounds_share_prompts"] = settings.rounds  # each takes an equal part, so their number matters
    return {
        "config": config.resolved(),
        "settings": asked,
        "judge": judge,
        "prompts": prompts_digest(prompts),
        "held_out": prompts_digest(held_out),
    }


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """Return the SHA-256 of what prompts ask, in their order."""
    told = [[p.id, [turn.as_message() for turn in p.turns], list(p.later), p.facts] for p in prompts]
    return hashlib.sha256(json.dumps(told, ensure_ascii=True, sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the names of the values that differ between two identities, with dots."""
    found: list[str] = []
    for key in sorted({*before, *now}):
        ours, theirs = before.get(key), now.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            found += changes(ours, theirs, f"{path}{key}.")
        elif ours != theirs:
            found.append(f"{path}{key}")
    return found
