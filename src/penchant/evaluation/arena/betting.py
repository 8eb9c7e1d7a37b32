"""Whether it is decided which of two is better: a test that stays valid however often one looks.

An interval for a fixed number of votes is wrong for who looks after every vote and stops when it pleases: sooner
or later it excludes every value. A gambler who bets against "the mean is m", with fair stakes, has a fortune
that stays below 1/alpha for ever with probability 1 - alpha if m is the mean (Ville's inequality). So the values
m against which no fortune was made so far are a confidence sequence: with probability 1 - alpha it holds the
mean at all times.

Source: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", Journal of the
Royal Statistical Society B 86 (2024), arXiv:2010.09686. Here the stakes are an even mixture of fixed fractions
of what may be staked on either side (diversified Kelly betting).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF = 0.5
_FRACTIONS = np.arange(1, 20) / 20  # of the largest stake that cannot lose everything
_STEPS = 200
_MEANS = np.arange(1, _STEPS) / _STEPS
_LARGEST_LOG = 700.0  # of a number that a float holds
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """What the votes so far have decided.

    Attributes:
        observations: How many there are.
        low: Lower end of the confidence sequence for the mean, in [0, 1].
        high: Upper end.
        at: After how many observations one half was excluded for the first time; None while it is not.
        evidence: The largest fortune that betting against one half made, from 1; decided at 1 / alpha.
    """

    observations: int
    low: float
    high: float
    at: int | None
    evidence: float


def decide(values: Sequence[float], *, alpha: float = 0.05) -> Decision:
    """Return the confidence sequence of the mean after these observations, and whether one half is excluded.

    The observations are to have one mean whatever came before them: votes on different prompts, in the order in
    which they came. Bounds lie on a grid of 0.005, rounded outwards; a bound once reached is kept.

    Args:
        values: Each in [0, 1].
        alpha: Probability, at most, that the mean is ever excluded.

    Raises:
        ValueError: A value or alpha is out of range.
    """
    lows, highs = confidence_sequence(values, alpha=alpha)
    path = log_fortunes(np.asarray(values, dtype=np.float64), HALF)
    over = np.flatnonzero(path >= -np.log(alpha))
    return Decision(
        len(path),
        float(lows[-1]) if len(lows) else 0.0,
        float(highs[-1]) if len(highs) else 1.0,
        int(over[0]) + 1 if over.size else None,
        float(np.exp(min(_LARGEST_LOG, path.max(initial=0.0)))),
    )


def confidence_sequence(values: Sequence[float], *, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Return the lower and the upper bound after every observation, see `decide`.

    Where in the end no mean fits what was seen (the observations have not one mean), both are the one that fits
    best.
    """
    observed = np.asarray(values, dtype=np.float64)
    if not 0 < alpha < 1 or (observed.size and not (0 <= observed.min() and observed.max() <= 1)):
        raise ValueError("observations lie in [0, 1] and alpha in (0, 1)")
    if not observed.size:
        return observed, observed
    most = np.maximum.accumulate(np.array([log_fortunes(observed, mean) for mean in _MEANS]), axis=1)
    kept = most < -np.log(alpha)
    kept[np.argmin(most, axis=0), np.arange(observed.size)] = True
    first, last = kept.argmax(axis=0), len(_MEANS) - 1 - kept[::-1].argmax(axis=0)
    return first / _STEPS, np.minimum(last + 2, _STEPS) / _STEPS


def log_fortunes(values: Floats, mean: float) -> Floats:
    """Return the logarithm of the fortune after every observation, betting that their mean is not `mean`.

    Args:
        values: Observations in [0, 1].
        mean: In (0, 1).
    """
    stakes = np.concatenate([_FRACTIONS / mean, -_FRACTIONS / (1 - mean)])
    gains = np.log1p(stakes[:, None] * (values[None, :] - mean)).cumsum(axis=1)
    return np.logaddexp.reduce(gains, axis=0) - np.log(len(stakes))
