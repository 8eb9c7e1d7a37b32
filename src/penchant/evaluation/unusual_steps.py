"""Steps whose loss or gradient stands far above what came just before: worth a look at their pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BEFORE = 50  # steps that a step is compared with
LEAST_BEFORE = 8
FAR = 6.0  # robust standard deviations
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution: 1 / the 75 % quantile
_LEAST_SPREAD = 0.01  # of the median: equal values in a row make any other infinitely far
_TOO_LARGE = 1e30
_WATCHED = {"loss": "loss", "grad_norm": "gradient norm"}


class UnusualStep(NamedTuple):
    """A step that stands out.

    Attributes:
        step: Its number.
        key: The figure in `metrics.jsonl`.
        value: The figure.
        median: Of the steps before it.
        deviations: By how many robust standard deviations it lies above the median.
        steps_before: How many steps these were.
    """

    step: int
    key: str
    value: float
    median: float
    deviations: float
    steps_before: int

    @property
    def reason(self) -> str:
        """Why it is shown, in a sentence."""
        return (
            f"{_WATCHED[self.key]} {self.value:.4g}, {self.deviations:.0f} deviations above {self.median:.4g}, "
            f"the median of the {self.steps_before} steps before"
        )


def unusual_steps(rows: Sequence[Mapping[str, Any]], most: int = 20) -> list[UnusualStep]:
    """Return the steps whose loss or gradient norm lies far above its running median, the farthest first.

    A value x is far when (x - m) / s > 6, where m is the median of up to 50 steps before it (at least 8), and
    s = 1.4826 * median(|x_i - m|) over the same steps, at least 1 % of |m|. The factor makes s the standard
    deviation of normal values; neither m nor s moves much when a few of the steps before were odd themselves
    (Rousseeuw and Croux, "Alternatives to the Median Absolute Deviation", JASA 88, 1993).

    Args:
        rows: Lines of `metrics.jsonl` in the order of their steps; what is no finite number is left out.
        most: How many to return at most.
    """
    found = [step for key in _WATCHED for step in _far_above(rows, key)]
    return sorted(found, key=lambda step: -step.deviations)[:most]


def _far_above(rows: Sequence[Mapping[str, Any]], key: str) -> list[UnusualStep]:
    known = [(int(row["step"]), row[key]) for row in rows if _is_finite(row.get(key))]
    values = np.array([value for _, value in known], dtype=np.float64)
    found = []
    for place, median, spread in _running(values):
        deviations = (values[place] - median) / spread if spread else 0.0
        if deviations > FAR:
            step, value = known[place][0], float(values[place])
            found.append(UnusualStep(step, key, value, median, float(deviations), min(place, BEFORE)))
    return found


def _running(values: NDArray[np.float64]) -> list[tuple[int, float, float]]:
    """Of each place with enough before it: median and spread of what comes before."""
    places = range(LEAST_BEFORE, len(values))
    if not places:
        return []
    padded = np.concatenate([np.full(BEFORE, np.nan), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, BEFORE)[LEAST_BEFORE : len(values)]
    medians = np.nanmedian(windows, axis=1)
    spreads = _MAD_TO_DEVIATION * np.nanmedian(np.abs(windows - medians[:, None]), axis=1)
    spreads = np.maximum(spreads, _LEAST_SPREAD * np.abs(medians))
    return list(zip(places, medians.tolist(), spreads.tolist(), strict=True))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE
