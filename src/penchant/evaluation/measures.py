"""What an evaluation says of a model row by row, and the same statistics for all of it.

A `Measure` keeps one number a row under the row's id. So two models are compared on the rows that both have, in
pairs, whatever was measured: right or wrong, a length, a loss.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from penchant.evaluation.stats import (
    Interval,
    cluster_bootstrap,
    mcnemar_exact,
    paired_bootstrap_difference,
    wilson,
)

Kind = Literal["share", "fraction", "mean", "perplexity"]
Better = Literal["higher", "lower", ""]

SIGNIFICANT = 0.05
_TIE = 0.5


@dataclass(frozen=True)
class Measure:
    """One line of a comparison, for one model.

    Attributes:
        name: What is measured; models are compared on lines of one name.
        values: A finite number for each row, by the row's id. Of a share: 0, 1/2 (a tie) or 1. Of a perplexity:
            the mean -log p of the row's tokens, nats.
        kind: How the rows make one figure: their share; their mean, for a fraction of values in [0, 1]; or exp of
            their mean.
        better: Which direction is an improvement, "" where that is not for the figure to say.
        clusters: What a row belongs to, where rows are not independent; by id.
        weights: How much a row counts, such as its tokens; by id; all alike when empty.
        detail: Whether it is a part of the line above it, such as one type of prompts.
    """

    name: str
    values: Mapping[str, float]
    kind: Kind = "share"
    better: Better = ""
    clusters: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    detail: bool = False

    def part(self, ids: Collection[str], name: str = "") -> Measure:
        """Return the same measure on some of its rows, under a name of its own if that is given."""
        values = {one: value for one, value in self.values.items() if one in ids}
        return replace(self, name=name or self.name, values=values)


def figure_of(measure: Measure) -> dict[str, Any]:
    """Return {"value", "interval", "rows"}: the figure, its 95 % interval, how many rows it is made of.

    A share of independent rows takes Wilson's interval, everything else the bootstrap over clusters; a share at 0
    or 1 takes Wilson's with the clusters as trials. The interval is None where a single cluster shows no spread
    or all rows are ties, and the value too where there is no row.
    """
    ids = list(measure.values)
    if not ids:
        return {"value": None, "interval": None, "rows": 0}
    values, weights = _column(measure, ids), _weights(measure, ids)
    value = float(np.average(values, weights=weights))
    interval = _interval(measure, ids, values, weights)
    return {
        "value": _scaled(measure.kind, value),
        "interval": interval and [_scaled(measure.kind, interval.low), _scaled(measure.kind, interval.high)],
        "rows": len(ids),
    }


def paired_test(ours: Measure, theirs: Measure) -> dict[str, Any] | None:
    """Return how one model differs from another on the rows that both have; None where they share none.

    {"difference", "interval", "p", "test", "rows", "clear"}: ours minus theirs with the interval of the paired
    bootstrap (of perplexities their ratio); p of the exact McNemar test where rows are independent and right or
    wrong, None elsewhere. `clear` says that p is below 0.05, or that the interval leaves out no difference.
    """
    ids = [name for name in ours.values if name in theirs.values]
    if not ids:
        return None
    first, second, weights = _column(ours, ids), _column(theirs, ids), _weights(ours, ids)
    groups = [ours.clusters.get(name, name) for name in ids]
    difference, interval = float(np.average(first - second, weights=weights)), None
    if len(set(groups)) > 1:
        found = paired_bootstrap_difference(first, second, groups, weights=weights)
        interval = [found.low, found.high]
    exact = ours.kind == "share" and _independent(ours, ids) and _right_or_wrong(first) and _right_or_wrong(second)
    p = mcnemar_exact(int((first > second).sum()), int((first < second).sum())) if exact else None
    beyond = interval is not None and not interval[0] <= 0 <= interval[1]
    ratio = ours.kind == "perplexity"
    return {
        "difference": math.exp(difference) if ratio else difference,
        "interval": [math.exp(bound) for bound in interval] if ratio and interval else interval,
        "p": p,
        "test": "exact McNemar" if exact else "paired bootstrap",
        "rows": len(ids),
        "clear": p < SIGNIFICANT if p is not None else beyond,
    }


def compare_measures(columns: Sequence[Sequence[Measure]]) -> list[dict[str, Any]]:
    """Return one line for each name that occurs, in the order of first appearance.

    {"name", "kind", "better", "detail", "cells", "against_first", "against_previous"}: of every column the figure
    (None where it has no such measure), its test against the first column, and of the last column that against the
    one before, where there are more than two.

    Args:
        columns: The measures of each model; the first model is the reference.
    """
    names = list(dict.fromkeys(measure.name for column in columns for measure in column))
    tables = [{measure.name: measure for measure in column} for column in columns]
    return [_line([table.get(name) for table in tables]) for name in names]


def _line(found: Sequence[Measure | None]) -> dict[str, Any]:
    one = next(measure for measure in found if measure is not None)
    first, last = found[0], found[-1]
    before = found[-2] if len(found) > 2 else None
    return {
        "name": one.name,
        "kind": one.kind,
        "better": one.better,
        "detail": one.detail,
        "cells": [measure and figure_of(measure) for measure in found],
        "against_first": [
            paired_test(measure, first) if measure and first and place else None
            for place, measure in enumerate(found)
        ],
        "against_previous": paired_test(last, before) if last and before else None,
    }


def _column(measure: Measure, ids: Sequence[str]) -> np.ndarray:
    return np.array([measure.values[name] for name in ids], dtype=np.float64)


def _weights(measure: Measure, ids: Sequence[str]) -> np.ndarray | None:
    return np.array([measure.weights[name] for name in ids], dtype=np.float64) if measure.weights else None


def _interval(
    measure: Measure, ids: Sequence[str], values: np.ndarray, weights: np.ndarray | None
) -> Interval | None:
    groups = [measure.clusters.get(name, name) for name in ids]
    count = len(set(groups))
    if measure.kind == "share":
        if np.all(values == _TIE):
            return None
        extreme = bool(np.all(values == values[0]) and values[0] in (0, 1))
        if _independent(measure, ids) and weights is None:
            return wilson(float(values.sum()), len(ids))
        if extreme:
            return wilson(float(values[0]) * count, count)
    return cluster_bootstrap(values, groups, weights=weights) if count > 1 else None


def _independent(measure: Measure, ids: Sequence[str]) -> bool:
    return len({measure.clusters.get(name, name) for name in ids}) == len(ids)


def _right_or_wrong(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _scaled(kind: Kind, value: float) -> float:
    return math.exp(value) if kind == "perplexity" else value
