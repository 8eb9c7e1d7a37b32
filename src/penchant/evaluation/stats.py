"""Intervals and paired tests: how far a measured figure can be trusted.

Which one to use:

    a fraction of independent trials             wilson
    a mean over rows that come in clusters       cluster_bootstrap (with weights: a mean over their tokens)
    the same rows measured twice, any values     paired_bootstrap_difference
    the same rows right or wrong twice           mcnemar_exact

Clustered means have one method, the percentile bootstrap over whole clusters. A t-interval on cluster means
would leave [0, 1] near its ends, is symmetric where reward margins are skewed, and needs a correction of its
own for clusters of unequal size. The bootstrap does not, and serves accuracies, margins and differences.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Bounds the memory of a bootstrap: at most this many cluster draws (8 bytes each) are held at once.
_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval, all in the figure's own unit; `low <= value <= high`."""

    value: float
    low: float
    high: float


def wilson(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Return the share of successes in independent trials, with Wilson's score interval.

    Unlike the textbook `p +- z * sqrt(p * (1 - p) / n)` it stays in [0, 1], and 20 successes out of 20 do not
    come out as certainty.

    Args:
        successes: Between 0 and `trials`; a tie may count one half.
        trials: How many independent trials there were; at least 1.
        confidence: Coverage aimed at, strictly between 0 and 1.

    Returns:
        Fractions in [0, 1].

    Raises:
        ValueError: There are no trials, more successes than trials, or `confidence` is out of range.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
        the American Statistical Association 22 (1927).
    """
    if trials < 1:
        raise ValueError(f"wilson needs at least one trial, got {trials}")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie between 0 and {trials}, got {successes}")
    _check_confidence(confidence)
    share = successes / trials
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half_width = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # The bounds contain the share exactly; min and max only undo rounding at 0 and at 1.
    return Interval(share, min(share, max(0.0, centre - half_width)), max(share, min(1.0, centre + half_width)))


def cluster_bootstrap(
    values: Sequence[float] | NDArray[np.floating],
    clusters: Sequence[Hashable],
    *,
    weights: Sequence[float] | NDArray[np.floating] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of rows that come in clusters, with a percentile bootstrap interval.

    Whole clusters are drawn with replacement, as many as there are; each draw's figure is the sum of its rows
    over the number of its rows, or of weighted rows over their weight. Rows of one cluster (answers to one
    question) may thus depend on each other in any way. The interval is widened, if need be, to contain the mean of
    the rows themselves.

    With fewer than some 20 clusters it is too narrow. When every cluster has the same mean it has no width,
    which says that the spread cannot be seen, not that there is none: for a fraction at 0 or 1 use `wilson`,
    with the clusters as trials.

    Args:
        values: One finite number a row, in any unit.
        clusters: What each row belongs to; rows with equal labels are resampled together.
        weights: How much each row counts, above 0, such as its tokens; None = all alike.
        seed: Same rows, same seed: same interval.
        resamples: Number of draws.
        confidence: Coverage aimed at, strictly between 0 and 1.

    Returns:
        Mean and bounds in the unit of `values`, between their least and their largest.

    Raises:
        ValueError: There are no rows, a value is not finite, the lengths differ, there are fewer than two
            clusters (one shows no spread), or an option is out of range.

    Source: C. A. Field and A. H. Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical
        Society B 69 (2007), for resampling clusters; the percentile interval is Efron's.
    """
    rows = np.asarray(values, dtype=np.float64)
    sums, sizes = _cluster_totals(rows, clusters, _checked_weights(weights, rows))
    _check_confidence(confidence)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    value = float(sums.sum() / sizes.sum())
    means = _resampled_means(sums, sizes, seed=seed, resamples=resamples)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def clustered(values: NDArray[np.floating], clusters: Sequence[str]) -> Interval:
    """Return the mean with its 95 % interval; a fraction at 0 or 1 takes Wilson's, with clusters as trials."""
    count = len(set(clusters))
    extreme = bool(np.all(values == 0) or np.all(values == 1))
    if extreme or count == 1:
        share = float(np.clip(values.mean(), 0, 1))
        return wilson(share * count, count)
    return cluster_bootstrap(values, clusters)


def paired_bootstrap_difference(
    a: Sequence[float] | NDArray[np.floating],
    b: Sequence[float] | NDArray[np.floating],
    clusters: Sequence[Hashable],
    *,
    weights: Sequence[float] | NDArray[np.floating] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return mean(a) - mean(b) for two measurements of the same rows, with a clustered bootstrap interval.

    Row i of both is the same question, so what makes a question easy for both cancels; the interval is that
    of `cluster_bootstrap` on the differences, and its warnings hold here too.

    Args:
        a: One finite number a row, for example 1.0 where the policy was right and 0.0 where not.
        b: The same rows measured the other way, for example with the reference.
        clusters: What each row belongs to; rows with equal labels are resampled together.
        weights: How much each row counts, above 0, such as its tokens; None = all alike.
        seed: Same rows, same seed: same interval.
        resamples: Number of draws.
        confidence: Coverage aimed at, strictly between 0 and 1.

    Returns:
        Difference and bounds in the unit of `a` and `b`; positive where `a` is larger.

    Raises:
        ValueError: As `cluster_bootstrap`, or `a` and `b` differ in length.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a and b must measure the same rows, got shapes {first.shape} and {second.shape}")
    return cluster_bootstrap(
        first - second, clusters, weights=weights, seed=seed, resamples=resamples, confidence=confidence
    )


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Return the two-sided exact p-value that two systems are right equally often on the same questions.

    Only questions on which exactly one of them is right count; under the null each of those is a fair coin,
    so p = min(1, 2 * P(X <= min(first_only, second_only))) with X binomial(first_only + second_only, 1/2).
    Computed in integers, so exact up to the last rounding. The questions must be independent of each other.

    Args:
        first_only: Questions that the first alone got right.
        second_only: Questions that the second alone got right.

    Returns:
        A probability in (0, 1]; 1 when the two never differ.

    Raises:
        ValueError: A count is negative.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika 12 (1947).
    """
    if first_only < 0 or second_only < 0:
        raise ValueError(f"counts cannot be negative, got {first_only} and {second_only}")
    total = first_only + second_only
    ways, tail = 1, 1  # ways to choose `hits` of `total`, and their sum so far
    for hits in range(1, min(first_only, second_only) + 1):
        ways = ways * (total - hits + 1) // hits
        tail += ways
    # Beyond 1074 questions the quotient may round to 0; the least positive float keeps the promised range.
    return max(min(1.0, 2 * tail / 2**total), math.ulp(0.0))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence}")


def _checked_weights(
    weights: Sequence[float] | NDArray[np.floating] | None, rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    found = np.ones_like(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    if found.shape != rows.shape:
        raise ValueError(f"every row needs a weight, got shapes {rows.shape} and {found.shape}")
    if not (np.isfinite(found) & (found > 0)).all():
        raise ValueError("weights must be finite and above 0")
    return found


def _cluster_totals(
    rows: NDArray[np.float64], clusters: Sequence[Hashable], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weighted sum of the rows of each cluster and its weight, in order of first appearance."""
    if rows.ndim != 1 or rows.size == 0:
        raise ValueError(f"values must be a non-empty list of numbers, got shape {rows.shape}")
    if len(clusters) != rows.size:
        raise ValueError(f"{rows.size} values but {len(clusters)} cluster labels")
    if not np.isfinite(rows).all():
        raise ValueError("values must be finite")
    number: dict[Hashable, int] = {}
    index = [number.setdefault(label, len(number)) for label in clusters]
    if len(number) < 2:
        raise ValueError("one cluster shows no spread: an interval needs at least two")
    sums, sizes = np.zeros(len(number)), np.zeros(len(number))
    np.add.at(sums, index, rows * weights)
    np.add.at(sizes, index, weights)
    return sums, sizes


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], *, seed: int, resamples: int
) -> NDArray[np.float64]:
    """Return one ratio mean for each draw of as many clusters as there are."""
    generator = np.random.default_rng(seed)
    count = sums.size
    block = max(1, _DRAWS_AT_ONCE // count)
    means = np.empty(resamples)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        drawn = generator.integers(count, size=(stop - start, count))
        means[start:stop] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means
