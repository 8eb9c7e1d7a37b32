"""Which pairs share a step, and which a micro-batch."""

from __future__ import annotations

import itertools

import pytest
from accelerate.data_loader import SeedableRandomSampler

from penchant.batching.packing import (
    epoch_order,
    in_last_epoch,
    number_prompts,
    split_by_tokens,
    step_indices,
)


def test_an_epoch_shows_every_pair_once() -> None:
    """Ten pairs in steps of four: three epochs in order, each a permutation, and not all the same."""
    stream = [index for step in range(8) for index in step_indices(step, count=10, batch=4, seed=1)]
    epochs = [stream[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[1] == epoch_order(10, seed=1, epoch=1)


def test_a_step_larger_than_the_data_runs_through_epochs() -> None:
    """Seven pairs asked of three: each at least twice, none more than three times."""
    found = step_indices(0, count=3, batch=7, seed=0)
    assert len(found) == 7
    assert all(2 <= found.count(index) <= 3 for index in range(3))


def test_order_is_a_function_of_seed_and_epoch() -> None:
    """The same again for the same seed, another for another."""
    assert epoch_order(50, seed=3, epoch=2) == epoch_order(50, seed=3, epoch=2)
    assert epoch_order(50, seed=3, epoch=2) != epoch_order(50, seed=4, epoch=2)
    assert epoch_order(50, seed=3, epoch=2) != epoch_order(50, seed=3, epoch=3)


@pytest.mark.parametrize(
    ("lengths", "limit", "parts"),
    [
        ([], 8, []),
        ([3, 4, 9, 2], 8, [[0, 1], [2], [3]]),
        ([4, 4, 4], 8, [[0, 1], [2]]),
        ([9, 9], 8, [[0], [1]]),
        ([1, 1, 1], 1, [[0], [1], [2]]),
        ([5, 1, 1, 1], 100, [[0, 1, 2, 3]]),
    ],
)
def test_split_by_tokens(lengths: list[int], limit: int, parts: list[list[int]]) -> None:
    """Filled in order up to the limit; what is larger than the limit is alone; nothing is lost."""
    assert split_by_tokens(lengths, limit) == parts


def test_pairs_of_one_prompt_stand_together() -> None:
    """Still every pair once, another order each epoch, and no prompt in two places."""
    prompts = number_prompts("abcabcdeafgb")
    assert prompts == [0, 1, 2, 0, 1, 2, 3, 4, 0, 5, 6, 1]
    orders = [epoch_order(12, seed=1, epoch=epoch, prompts=prompts) for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 4
    for order in orders:
        assert sorted(order) == list(range(12))
        seen = [prompts[index] for index in order]
        changes = sum(one != other for one, other in itertools.pairwise(seen))
        assert changes == len(set(prompts)) - 1


def test_steps_follow_the_order_by_prompts() -> None:
    """Across epochs, like the order by pairs."""
    prompts = [0, 0, 1, 1, 2]
    stream = [i for step in range(5) for i in step_indices(step, count=5, batch=2, seed=3, prompts=prompts)]
    orders = [epoch_order(5, seed=3, epoch=epoch, prompts=prompts) for epoch in (0, 1)]
    assert stream == [*orders[0], *orders[1]]


def test_in_the_course_of_trl_an_epoch_ends_with_what_is_left() -> None:
    """Ten pairs in steps of four: three steps an epoch, the last of two pairs, and none of both epochs."""
    steps = [step_indices(step, count=10, batch=4, seed=1, trl=True) for step in range(6)]
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    epochs = [list(itertools.chain(*steps[:3])), list(itertools.chain(*steps[3:]))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs == [epoch_order(10, seed=1, epoch=epoch, trl=True) for epoch in (0, 1)]
    last = [in_last_epoch(step, steps=6, count=10, batch=4, trl=True) for step in range(6)]
    assert last == [False] * 3 + [True] * 3


def test_trls_order_is_that_of_accelerates_sampler() -> None:
    sampler = SeedableRandomSampler(range(23), data_seed=7)
    for epoch in range(3):
        assert epoch_order(23, seed=7, epoch=epoch, trl=True) == list(sampler)
