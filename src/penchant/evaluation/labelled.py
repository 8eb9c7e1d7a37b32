"""Whether the implicit reward tells desirable responses from undesirable ones, where no two share a prompt.

The reward of a response is beta * (log pi(y|x) - log ref(y|x)), as KTO has it (Ethayarajh et al. 2024,
arXiv:2402.01306). Its **AUC** is the probability that a desirable response drawn at random has a higher reward
than an undesirable one, ties one half (Hanley and McNeil 1982, "The meaning and use of the area under a receiver
operating characteristic curve"): 1/2 for a reward that knows nothing, whatever the share of desirable ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_RESAMPLES = 1000


def labelled_figures(
    rewards: Floats, desirable: Flags, clusters: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Return the figures of `docs/run-directory.md` on responses with a label.

    `test_responses` and `test_desirable` count; `reward_auc` is the area in [0, 1], None where one of the kinds is
    missing; its 95 % interval is the percentile bootstrap over clusters, None where there are fewer than two
    clusters or no draw has both kinds.

    Args:
        rewards: Of each response, beta x nats.
        desirable: Its label.
        clusters: Which question each belongs to.
        seed: Of the bootstrap.
    """
    return {
        "test_responses": len(rewards),
        "test_desirable": int(desirable.sum()),
        "reward_auc": area(rewards, desirable),
        "reward_auc_interval": _interval(rewards, desirable, clusters, seed),
    }


def area(values: Floats, positive: Flags) -> float | None:
    """Return the area under the receiver's operating curve in [0, 1]; None where one kind is missing."""
    return _weighted_area(values, positive, np.ones(len(values)))


def _weighted_area(values: Floats, positive: Flags, weights: Floats) -> float | None:
    """The area where each row stands for `weights` rows like it: what a bootstrap's draw comes to."""
    _, place = np.unique(values, return_inverse=True)
    size = int(place.max(initial=-1)) + 1
    above = np.bincount(place, weights * positive, size)
    below = np.bincount(place, weights * ~positive, size)
    pairs = above.sum() * below.sum()
    if not pairs:
        return None
    beaten = np.cumsum(below) - below / 2  # of its equals half
    return float((above * beaten).sum() / pairs)


def _interval(values: Floats, positive: Flags, clusters: Sequence[str], seed: int) -> list[float] | None:
    _, group = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    count = int(group.max(initial=-1)) + 1
    if count < 2 or area(values, positive) is None:
        return None
    coin = np.random.default_rng(seed)
    draws = (coin.multinomial(count, np.full(count, 1 / count)) for _ in range(_RESAMPLES))
    areas = [_weighted_area(values, positive, drawn[group].astype(np.float64)) for drawn in draws]
    found = [one for one in areas if one is not None]  # a draw without one of the kinds has none
    if not found:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return [float(low), float(high)]
