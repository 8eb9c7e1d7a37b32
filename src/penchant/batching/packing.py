"""Which pairs share a step, and which of a step share a micro-batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np


def epoch_order(count: int, *, seed: int, epoch: int, prompts: Sequence[int] | None = None) -> list[int]:
    """Return a permutation of `range(count)`: a pure function of its arguments, so a resume skips nothing.

    Args:
        count: Pairs.
        seed: Of the order.
        epoch: From 0.
        prompts: The number of each pair's prompt; then prompts are shuffled, and the pairs of one stand together.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    if prompts is None:
        return order.tolist()
    first: dict[int, int] = {}  # where each prompt comes first in the order of pairs
    for place, index in enumerate(order):
        first.setdefault(prompts[index], place)
    return sorted(order.tolist(), key=lambda index: first[prompts[index]])


def number_prompts(prompts: Iterable[Hashable]) -> list[int]:
    """Return for each prompt the number of the first one equal to it, from 0.

    >>> number_prompts(["a", "b", "a"])
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]


def step_indices(
    step: int, *, count: int, batch: int, seed: int, prompts: Sequence[int] | None = None
) -> list[int]:
    """Return the pairs of optimizer step `step` (from 0), running on across epochs.

    Every pair is seen once an epoch; a step that crosses the end of an epoch takes the rest from the next.
    """
    chosen: list[int] = []
    position = step * batch
    while len(chosen) < batch:
        epoch, offset = divmod(position + len(chosen), count)
        order = epoch_order(count, seed=seed, epoch=epoch, prompts=prompts)
        chosen += order[offset : offset + batch - len(chosen)]
    return chosen


def in_last_epoch(step: int, *, steps: int, count: int, batch: int) -> bool:
    """Return whether none of a step's pairs will be seen again in a run of `steps` steps."""
    epoch = step * batch // count
    return (epoch + 1) * count >= steps * batch


def split_by_tokens(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Return positions grouped in order so that each group holds at most `max_tokens`, or a single item.

    >>> split_by_tokens([3, 4, 9, 2], 8)
    [[0, 1], [2], [3]]
    """
    parts: list[list[int]] = []
    filled = 0
    for position, length in enumerate(lengths):
        if not parts or filled + length > max_tokens:
            parts.append([])
            filled = 0
        parts[-1].append(position)
        filled += length
    return parts


def first_epoch_chunks(
    lengths: Sequence[int],
    *,
    steps: int,
    batch: int,
    max_tokens: int,
    seed: int,
    prompts: Sequence[int] | None = None,
) -> list[list[int]]:
    """Return the micro-batches of the first epoch, as training will form them: every pair that it sees once.

    Args:
        lengths: Tokens of each pair.
        steps: Optimizer steps of the run; pairs that fewer steps than an epoch leave out are left out here.
        batch: Pairs in an optimizer step.
        max_tokens: Most tokens in a micro-batch.
        seed: Of the order.
        prompts: See `epoch_order`.
    """
    order = epoch_order(len(lengths), seed=seed, epoch=0, prompts=prompts)
    starts = range(0, len(order), batch)
    whole = [order[start : start + batch] for start in starts][:steps]
    return [
        [step[position] for position in part]
        for step in whole
        for part in split_by_tokens([lengths[index] for index in step], max_tokens)
    ]
