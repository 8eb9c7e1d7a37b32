"""How often a rater's label is wrong, by what they say of the same pair shown twice.

The model: each decided label is flipped with probability e, independently of the other showing and alike in both
directions (a binary symmetric channel, the one that label smoothing and robust DPO assume; Mitchell 2023,
Chowdhury et al. 2024, arXiv:2403.00409). Two labels of one pair then differ with probability d = 2 e (1 - e), so

    e = (1 - sqrt(1 - 2 d)) / 2        for d < 1/2, and 1/2 from there on.

A rater who remembers the first showing makes e too low. Repeats say nothing of a rater who is steadily of another
opinion than you.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penchant.evaluation.stats import Interval, wilson

FEWEST_REPEATS = 10
"""Fewer repeated pairs, decided both times, say too little to set anything by."""
MOST_SMOOTHING = 0.45
"""From this noise on labels say next to nothing; the losses take less than one half."""


@dataclass(frozen=True)
class Offer:
    """What the noise means for the next training round.

    Attributes:
        setting: What to add to the command, "" where nothing is offered.
        why: In words.
    """

    setting: str
    why: str


def flipped_share(differing: float) -> float:
    """Return the probability e that one label is flipped, from the share of pairs whose two labels differ."""
    return (1 - math.sqrt(1 - 2 * differing)) / 2 if differing < 1 / 2 else 1 / 2


def label_noise(differing: int, pairs: int) -> Interval | None:
    """Return the share of flipped labels with a 95 % interval (Wilson's for the differing pairs, carried over).

    Args:
        differing: Pairs whose two labels name different models.
        pairs: Pairs that were decided both times; None comes out where there are none.
    """
    if not pairs:
        return None
    found = wilson(differing, pairs)
    return Interval(*map(flipped_share, (found.value, found.low, found.high)))


def smoothing_offer(noise: Interval | None, pairs: int) -> Offer:
    """Return what to set `objective.label_smoothing` to, or why nothing is offered.

    Args:
        noise: See `label_noise`.
        pairs: How many pairs it rests on.
    """
    if noise is None or pairs < FEWEST_REPEATS:
        return Offer(
            "", f"{pairs} repeated pairs were decided both times; from {FEWEST_REPEATS} on there is an offer."
        )
    if noise.value >= MOST_SMOOTHING:
        return Offer("", "These labels are hardly better than a coin. Do not train on them.")
    if noise.value == 0:
        return Offer("", "No label changed, so nothing speaks for smoothing.")
    return Offer(
        f"--set objective.label_smoothing={noise.value:.3f}",
        f"About {100 * noise.value:.0f} % of the labels may be wrong; dpo, robust, exo and aot allow for it.",
    )
