"""Which pairs share a step, and which of a step share a micro-batch."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch


def epoch_order(
    count: int, *, seed: int, epoch: int, prompts: Sequence[int] | None = None, trl: bool = False
) -> list[int]:
    """Return a permutation of `range(count)`: a pure function of its arguments, so a resume skips nothing.

    Args:
        count: Pairs.
        seed: Of the order.
        epoch: From 0.
        prompts: The number of each pair's prompt; then prompts are shuffled, and the pairs of one stand together.
        trl: The order of TRL's trainer by the same seed: that of accelerate's sampler, whose seed of an epoch is
            the sum of both numbers.
    """
    if trl:
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
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
    step: int, *, count: int, batch: int, seed: int, prompts: Sequence[int] | None = None, trl: bool = False
) -> list[int]:
    """Return the pairs of optimizer step `step` (from 0), running on across epochs.

    Every pair is seen once an epoch; a step that crosses the end of an epoch takes the rest from the next. In the
    course of TRL's trainer (`trl`) it takes no more than what is left.
    """
    if trl:
        epoch, place = divmod(step, math.ceil(count / batch))
        return epoch_order(count, seed=seed, epoch=epoch, trl=True)[place * batch : (place + 1) * batch]
    chosen: list[int] = []
    position = step * batch
    while len(chosen) < batch:
        epoch, offset = divmod(position + len(chosen), count)
        order = epoch_order(count, seed=seed, epoch=epoch, prompts=prompts)
        chosen += order[offset : offset + batch - len(chosen)]
    return chosen


def in_last_epoch(step: int, *, steps: int, count: int, batch: int, trl: bool = False) -> bool:
    """Return whether none of a step's pairs will be seen again in a run of `steps` steps."""
    if trl:
        in_epoch = math.ceil(count / batch)
        return (step // in_epoch + 1) * in_epoch >= steps
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


def share_out(lengths: Sequence[int], ranks: int, prompts: Sequence[int] | None = None) -> list[list[int]]:
    """Return which positions each of `ranks` processes takes, ascending: nearly the same number of tokens each.

    The longest first, each to the process that has least by then (Graham 1969, "Bounds on multiprocessing timing
    anomalies": at most 4/3 of the best possible). With at least as many positions as processes none is left
    without.

    Args:
        lengths: Tokens at each position.
        ranks: Processes.
        prompts: The number of each position's prompt; neighbours that share one stay together, so that it is fed
            once, as long as there are as many prompts as processes.

    >>> share_out([9, 5, 4, 3], 2)
    [[0, 3], [1, 2]]
    """
    runs = _runs(len(lengths), prompts)
    if len(runs) < ranks:
        runs = _runs(len(lengths), None)
    sizes = [sum(lengths[position] for position in run) for run in runs]
    loads, shares = [0] * ranks, [list[int]() for _ in range(ranks)]
    for number in sorted(range(len(runs)), key=lambda number: (-sizes[number], number)):
        least = min(range(ranks), key=lambda rank: (loads[rank], len(shares[rank]), rank))
        loads[least] += sizes[number]
        shares[least] += runs[number]
    return [sorted(share) for share in shares]


def _runs(count: int, prompts: Sequence[int] | None) -> list[list[int]]:
    """Neighbouring positions of one prompt together; without prompts each by itself."""
    runs: list[list[int]] = []
    for position in range(count):
        if prompts is not None and position and prompts[position] == prompts[position - 1]:
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs


def micro_batches(
    lengths: Sequence[int], max_tokens: int, ranks: int = 1, prompts: Sequence[int] | None = None
) -> list[list[list[int]]]:
    """Return the micro-batches of a step by process: which positions each of them holds.

    Args:
        lengths: Tokens of each pair of the step.
        max_tokens: Most tokens in a micro-batch.
        ranks: Processes.
        prompts: See `share_out`.
    """
    shares = share_out(lengths, ranks, prompts) if ranks > 1 else [list(range(len(lengths)))]
    return [
        [[share[place] for place in part] for part in split_by_tokens([lengths[at] for at in share], max_tokens)]
        for share in shares
    ]


def first_epoch_chunks(
    lengths: Sequence[int],
    *,
    steps: int,
    batch: int,
    max_tokens: int,
    seed: int,
    prompts: Sequence[int] | None = None,
    ranks: int = 1,
    trl: bool = False,
) -> list[list[list[int]]]:
    """Return each process's micro-batches of the first epoch, as training will form them: every pair seen once.

    Args:
        lengths: Tokens of each pair.
        steps: Optimizer steps of the run; pairs that fewer steps than an epoch leave out are left out here.
        batch: Pairs in an optimizer step.
        max_tokens: Most tokens in a micro-batch.
        seed: Of the order.
        prompts: See `epoch_order`.
        ranks: Processes.
        trl: See `epoch_order`.
    """
    order = epoch_order(len(lengths), seed=seed, epoch=0, prompts=prompts, trl=trl)
    starts = range(0, len(order), batch)
    chunks: list[list[list[int]]] = [[] for _ in range(ranks)]
    for step in [order[start : start + batch] for start in starts][:steps]:
        numbers = None if prompts is None else [prompts[index] for index in step]
        parts = micro_batches([lengths[index] for index in step], max_tokens, ranks, numbers)
        for own, found in zip(chunks, parts, strict=True):
            own += [[step[position] for position in part] for part in found]
    return chunks
