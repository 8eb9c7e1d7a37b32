"""Sums per response, and means."""

from __future__ import annotations

import torch

from penchant.batching.pair_batch import Group, pack_groups
from penchant.objective.logps import PairLogps, pair_logps


def test_sums_per_response() -> None:
    """Two pairs by hand: chosen of 3 and 1 tokens, rejected of 2 and 2."""
    batch = pack_groups([Group((3, 4), ((5, 6, 7), (5, 8))), Group((9,), ((10,), (11, 12)))])
    token_logps = torch.tensor([-1.0, -2.0, -3.0, -10.0, -20.0, -100.0, -0.5, -0.25], requires_grad=True)
    sums = pair_logps(token_logps, batch)
    assert sums.chosen.tolist() == [-6.0, -100.0]
    assert sums.rejected.tolist() == [-30.0, -0.75]
    assert sums.chosen_tokens.tolist() == [3, 1]
    assert sums.rejected_tokens.tolist() == [2, 2]
    mean = sums.mean()
    assert mean.chosen.tolist() == [-2.0, -100.0]
    assert mean.rejected.tolist() == [-15.0, -0.375]
    (slopes,) = torch.autograd.grad(mean.rejected.sum(), token_logps)
    assert slopes.tolist() == [0, 0, 0, 0.5, 0.5, 0, 0.5, 0.5]


def test_the_mean_of_a_response_that_is_not_there_is_zero() -> None:
    """And so is its slope: no 0 / 0 reaches a gradient."""
    batch = pack_groups([Group((3, 4), ((5, 6), ()))])
    token_logps = torch.tensor([-1.0, -2.0], requires_grad=True)
    mean = pair_logps(token_logps, batch).mean()
    assert (mean.chosen.item(), mean.rejected.item()) == (-1.5, 0.0)
    assert mean.rejected_tokens.item() == 0
    (slopes,) = torch.autograd.grad(mean.chosen.sum() + mean.rejected.sum(), token_logps)
    assert slopes.tolist() == [0.5, 0.5]


def test_mean_keeps_the_counts() -> None:
    """A mean of a mean would divide twice; the counts stay so that it can be seen."""
    logps = PairLogps(*(torch.tensor([value]) for value in (-6.0, -4.0, 3.0, 2.0)))
    assert logps.mean().chosen_tokens.item() == 3.0


def test_select_takes_all_columns_in_the_order_asked() -> None:
    """A pair's four numbers stay together."""
    logps = PairLogps(*(torch.arange(3.0) + 10 * column for column in range(4)))
    found = logps.select(torch.tensor([2, 0]))
    assert [value.tolist() for value in vars(found).values()] == [[2, 0], [12, 10], [22, 20], [32, 30]]
