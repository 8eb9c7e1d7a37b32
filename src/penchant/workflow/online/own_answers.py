"""How a model's own answers are sampled and made into pairs: one value for every verb that trains on them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from penchant.data.on_policy_pairs import PairRules
from penchant.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class OwnAnswers:
    """What loops of rounds and comparisons with policy gradients have in common.

    They derive from it, so that what they write of themselves stays flat, as folders of before have it.

    Attributes:
        samples: Answers a prompt, at least 2.
        temperature: Of the sampling, above 0: equal answers make no pair.
        top_k: See `penchant.types.Sampling`.
        top_p: Likewise.
        max_new_tokens: Where an answer is cut off.
        rules: How pairs are made of answers.
        seed: Of the order of the prompts and of the sampling.

    Raises:
        UsageError: A value is out of its range.
    """

    samples: int = 8
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.95
    max_new_tokens: int = 256
    rules: PairRules = field(default_factory=PairRules)
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            ("--samples", self.samples, self.samples >= 2, "at least 2: one answer makes no pair"),
            ("--temperature", self.temperature, self.temperature > 0, "above 0: equal answers make no pair"),
            ("--max-new-tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
        )

    def own_answers(self) -> dict[str, Any]:
        """Return these settings alone, by name."""
        return {one.name: getattr(self, one.name) for one in fields(OwnAnswers)}


def check_ranges(*allowed: tuple[str, object, bool, str]) -> None:
    """Check options, each given as its name, its value, whether it is right, and what it may be.

    Raises:
        UsageError: One is not right.
    """
    for name, value, right, range_ in allowed:
        if not right:
            raise UsageError(f"it is {value}", where=name, fix=f"It is {range_}.")
