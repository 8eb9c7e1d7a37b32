"""Passes through a model whose weights lie in shards: every process makes as many, or all wait for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from penchant.objective.pair_model import PairModel
from penchant.processes import most

Part = TypeVar("Part")


def evenly(model: PairModel, parts: Sequence[Part], passes: int | None = None) -> Iterator[tuple[Part, bool]]:
    """Yield each part with True, and for a sharded model the last part again with False: its result is not wanted.

    Args:
        model: What is run once for each.
        parts: This process's, at least one.
        passes: How many the process has that has most; None asks the others.
    """
    yield from ((part, True) for part in parts)
    if model.sharded:
        for _ in range((most(len(parts)) if passes is None else passes) - len(parts)):
            yield parts[-1], False
