"""What explanations measure on the pairs of a run: when each was seen, groups against one another, length."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.monitors import LATER, LEAST_PAIRS, LEAST_STEPS, RECENT
from penchant.evaluation.run_record import RunRecord
from penchant.evaluation.stats import Interval, cluster_bootstrap, wilson
from penchant.types import PreferencePair

Floats = NDArray[np.float64]
Line = Mapping[str, Any]

_RESAMPLES = 2000
_ROUNDING = 1e-12  # of a product of squares: less is none
_DRAWS_AT_ONCE = 400_000  # of clusters: bounds the memory of a bootstrap
_MOST_WORDS = 300  # of a response: comparing two takes their product
_MOST_COMPARED = 400  # pairs


@dataclass(frozen=True)
class Sightings:
    """Every time that a pair took part in a step, in order, measured before that step's update.

    Attributes:
        ids: Of the pairs.
        steps: The optimizer steps.
        chosen: Chosen log-ratios, nats (or per token where the loss takes means).
        rejected: Likewise.
        tokens: Scored tokens, shape (sightings, 2).
        before: How often the pair had been trained on, 0 at its first sighting.
    """

    ids: tuple[str, ...]
    steps: NDArray[np.int64]
    chosen: Floats
    rejected: Floats
    tokens: Floats
    before: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def margins(self) -> Floats:
        """Chosen - rejected log-ratio."""
        return self.chosen - self.rejected

    def select(self, places: NDArray[Any]) -> Sightings:
        """Return some of the sightings, by a mask or by places."""
        rows = np.arange(len(self))[places]
        ids = tuple(self.ids[row] for row in rows)
        return Sightings(
            ids, self.steps[rows], self.chosen[rows], self.rejected[rows], self.tokens[rows], self.before[rows]
        )

    def last(self) -> Sightings:
        """Return the last sighting of each pair, in the order of their first."""
        newest = {name: place for place, name in enumerate(self.ids)}
        return self.select(np.array(list(newest.values()), dtype=np.int64))

    def since(self, share: float) -> Sightings:
        """Return those of the last `share` of the steps."""
        if not len(self):
            return self
        return self.select(self.steps > self.steps[-1] - math.ceil(share * self.steps[-1]))


def sightings_of(lines: Sequence[Line]) -> Sightings:
    """Return the sightings that `pairs.jsonl` records, but for those whose figures are no numbers."""
    ids = [name for line in lines for name in line["id"]]
    count: dict[str, int] = {}
    before = []
    for name in ids:
        before.append(count.get(name, 0))
        count[name] = before[-1] + 1

    def column(key: str) -> Floats:
        return np.array([value for line in lines for value in line[key]], dtype=np.float64)

    every = Sightings(
        tuple(ids),
        np.array([line["step"] for line in lines for _ in line["id"]], dtype=np.int64),
        column("chosen_log_ratio"),
        column("rejected_log_ratio"),
        np.stack([column("chosen_tokens"), column("rejected_tokens")], axis=1),
        np.array(before, dtype=np.int64),
    )
    return every.select(np.isfinite(every.chosen) & np.isfinite(every.rejected))


def trained_before(record: RunRecord, least: int) -> Sightings | None:
    """Return the last sightings of pairs that had been trained on before; None of too few, and of KTO's rows."""
    if not record.pair_lines or record.config.objective.loss == "kto":
        return None
    last = sightings_of(record.pair_lines).last()
    again = last.select(last.before > 0)
    return again if len(again) >= least else None


def enough_recent(steps: Sequence[Line]) -> bool:
    """Return whether the last steps hold enough pairs for `monitors.displacement` to judge."""
    known = [step for step in steps if "chosen_fell_fraction" in step]
    recent = known[len(known) - math.ceil(RECENT * len(known)) :]
    return sum(int(step["pairs"]) for step in recent) >= LEAST_PAIRS


def enough_later(steps: Sequence[Line]) -> bool:
    """Return whether the later steps are enough for `monitors.no_improvement` to judge."""
    later = steps[len(steps) - math.ceil(LATER * len(steps)) :]
    return len(later) >= LEAST_STEPS and sum(int(step["pairs"]) for step in later) >= LEAST_PAIRS


def share(hits: NDArray[Any], clusters: Sequence[Hashable]) -> Interval:
    """Return a fraction (a tie counts one half) with its 95 % interval; at 0 or 1 Wilson's over the clusters."""
    values = np.asarray(hits, dtype=np.float64)
    count = len(set(clusters))
    if count < 2 or np.all(values == 0) or np.all(values == 1):
        return wilson(float(np.mean(values)) * count, count)
    return cluster_bootstrap(values, clusters)


def mean(values: Floats, clusters: Sequence[Hashable]) -> Interval:
    """Return a mean with its 95 % interval; without bounds where there is a single cluster."""
    if len(set(clusters)) < 2:
        return Interval(float(values.mean()), -math.inf, math.inf)
    return cluster_bootstrap(values, clusters)


def wins(margins: Floats) -> Floats:
    """Return 1 where a margin is above zero, one half where it is zero."""
    return np.where(margins > 0, 1.0, np.where(margins == 0, 0.5, 0.0))


def lowest(values: Floats, most: int) -> list[int]:
    """Return the places of the values below zero, the lowest first, at most so many."""
    return [int(place) for place in np.argsort(values, kind="stable")[:most] if values[place] < 0]


def apart(one: Interval, other: Interval) -> Interval:
    """Return the difference of two figures of separate samples, with Newcombe's interval from theirs.

    Source: R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics
        in Medicine 17 (1998), method 10.
    """
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, low, high)


def group_difference(values: Floats, member: NDArray[np.bool_], clusters: Sequence[Hashable]) -> Interval:
    """Return mean(members) - mean(the rest), with a percentile bootstrap over whole clusters.

    Raises:
        ValueError: One of the groups is empty.
    """
    if member.all() or not member.any():
        raise ValueError("a difference of groups needs two")
    inner = member.astype(np.float64)
    outer = 1 - inner
    totals = _totals(np.stack([values * inner, inner, values * outer, outer]), clusters)
    inside, count, outside, others = _resampled(totals)
    both = (count > 0) & (others > 0)
    found = inside[both] / count[both] - outside[both] / others[both]
    value = float(values[member].mean() - values[~member].mean())
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def correlation(one: Floats, other: Floats, clusters: Sequence[Hashable]) -> Interval | None:
    """Return Pearson's correlation with a percentile bootstrap over clusters; None where one does not vary."""
    if len(set(clusters)) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    x, y = one - one.mean(), other - other.mean()
    totals = _totals(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y]), clusters)
    rows, sum_x, sum_y, xx, yy, xy = _resampled(totals)
    spread = (xx - sum_x * sum_x / rows) * (yy - sum_y * sum_y / rows)
    varied = spread > _ROUNDING * xx * yy
    if not varied.any():
        return None
    found = np.clip((xy - sum_x * sum_y / rows)[varied] / np.sqrt(spread[varied]), -1, 1)
    value = float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _totals(columns: Floats, clusters: Sequence[Hashable]) -> Floats:
    """The sums of some columns over the rows of each cluster, shape (columns, clusters)."""
    number: dict[Hashable, int] = {}
    index = np.array([number.setdefault(label, len(number)) for label in clusters])
    totals = np.zeros((len(columns), len(number)))
    for row, column in zip(totals, columns, strict=True):
        np.add.at(row, index, column)
    return totals


def _resampled(totals: Floats) -> Floats:
    """The sums of as many clusters as there are, drawn with replacement, shape (columns, resamples)."""
    count, generator = totals.shape[1], np.random.default_rng(0)
    block = max(1, _DRAWS_AT_ONCE // count)
    sizes = [min(block, _RESAMPLES - start) for start in range(0, _RESAMPLES, block)]
    return np.concatenate(
        [totals[:, generator.integers(count, size=(size, count))].sum(axis=2) for size in sizes], axis=1
    )


def likeness(one: str, other: str) -> float:
    """Return how alike two texts are word for word, 0 to 1: twice the matching words over all words."""
    words = [text.split()[:_MOST_WORDS] for text in (one, other)]
    return SequenceMatcher(None, *words, autojunk=False).ratio()


def likenesses(names: Sequence[str], pairs: Mapping[str, PreferencePair]) -> dict[str, float]:
    """Return how alike chosen and rejected are, for the named pairs that are known: of many, the same some."""
    known = [name for name in names if name in pairs]
    drawn = sorted(known, key=lambda name: blake2b(name.encode(), digest_size=8).digest())[:_MOST_COMPARED]
    return {name: likeness(pairs[name].chosen, pairs[name].rejected) for name in drawn}
