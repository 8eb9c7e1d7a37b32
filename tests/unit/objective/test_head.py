"""The head in blocks against plain log_softmax, and its gradients made in the forward pass against torch's own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import penchant.objective.head as module
from penchant.batching.pair_batch import Group, PairBatch, pack_groups
from penchant.config import ObjectiveConfig
from penchant.objective.head import (
    Head,
    PairLosses,
    PairObjective,
    losses_by_autograd,
    pair_losses_once,
    token_logps,
)
from penchant.objective.logps import PairLogps, pair_logps
from penchant.objective.loss_table import pair_objective
from penchant.objective.pair_facts import PairFacts

WIDTH, VOCAB = 8, 23
GROUPS = [
    Group((3, 4), ((5, 6, 7), (5, 8))),
    Group((9,), ((10,), (11, 12, 13, 14))),
    Group((9, 3), ((10, 10), (4, 10, 6))),  # one token twice: its gradient adds up
]
BATCH = pack_groups(GROUPS)
ROWS = len(BATCH.target_ids)


def parts(*, bias: bool, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Hidden states, weight, and the bias if wanted."""
    torch.manual_seed(0)
    shapes = [(ROWS, WIDTH), (VOCAB, WIDTH), *([(VOCAB,)] if bias else [])]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def as_head(tensors: list[Tensor], precision: str = "fp32") -> Head:
    return Head(tensors[1], tensors[2] if len(tensors) > 2 else None, precision)  # type: ignore[arg-type]


def plain(tensors: list[Tensor], targets: Tensor) -> Tensor:
    scores = tensors[0] @ tensors[1].T + (tensors[2] if len(tensors) > 2 else 0)
    return torch.log_softmax(scores, dim=-1).gather(-1, targets[:, None]).squeeze(-1)


def objective(dtype: torch.dtype = torch.float32, **options: Any) -> PairObjective:
    torch.manual_seed(1)
    counts = torch.tensor([3.0, 1.0, 2.0], dtype=dtype), torch.tensor([2.0, 4.0, 3.0], dtype=dtype)
    reference = PairLogps(-5 * torch.rand(3, dtype=dtype), -5 * torch.rand(3, dtype=dtype), *counts)
    weights = torch.tensor([0.5, 0.25, 0.125], dtype=dtype)
    return pair_objective(ObjectiveConfig.model_validate(options), reference, PairFacts(weights))


def blocks_of(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(Head, "block_rows", property(lambda _: rows))


@pytest.mark.parametrize("rows", [1, 4, ROWS, 512])
@pytest.mark.parametrize("bias", [False, True])
def test_values_are_those_of_log_softmax(monkeypatch: pytest.MonkeyPatch, bias: bool, rows: int) -> None:
    """For any number of rows in a block, the last block full or not, with and without a bias."""
    blocks_of(monkeypatch, rows)
    tensors = parts(bias=bias)
    found = token_logps(tensors[0], as_head(tensors), BATCH)
    assert found.grad_fn is None
    assert torch.allclose(found, plain(tensors, BATCH.target_ids), rtol=1e-5, atol=1e-6)


def test_a_token_that_is_all_but_impossible_keeps_its_value() -> None:
    """Its probability is zero in fp32; its log-probability is not infinite."""
    head = Head(torch.tensor([[300.0], [0.0], [-300.0]]), None, "fp32")
    found = token_logps(torch.ones(2, 1), head, pack_groups([Group((1,), ((2,), (0,)))]))
    assert found.tolist() == [-600.0, 0.0]


def test_the_scores_of_a_block_are_bounded_by_bytes() -> None:
    """So many rows that their scores fit, and one when not even one fits."""
    assert Head(torch.empty(49152, 1), None, "fp32").block_rows == (96 << 20) // (4 * 49152)
    assert Head(torch.empty(30_000_000, 1), None, "fp32").block_rows == 1


@pytest.mark.parametrize("options", [{"beta": 0.7}, {"label_smoothing": 0.2}, {"logps": "mean"}, {"loss": "sft"}])
@pytest.mark.parametrize("rows", [1, 3, 6, 512])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_made_in_the_forward_pass_are_those_of_autograd(
    monkeypatch: pytest.MonkeyPatch, bias: bool, rows: int, options: dict[str, Any]
) -> None:
    """For pairs that share a block, fill one, or exceed it and are gone through twice; and scaled afterwards."""
    blocks_of(monkeypatch, rows)
    tensors = parts(bias=bias)
    slow = losses_by_autograd(plain(tensors, BATCH.target_ids), BATCH, objective(**options))
    wanted = torch.autograd.grad(slow.total, tensors, torch.tensor(-2.5))
    fast = pair_losses_once(tensors[0], as_head(tensors), BATCH, objective(**options))
    assert_same_values(fast, slow)
    for one, other in zip(torch.autograd.grad(fast.total, tensors, torch.tensor(-2.5)), wanted, strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())


def assert_same_values(fast: PairLosses, slow: PairLosses) -> None:
    assert float(fast.total.detach()) == pytest.approx(float(slow.total.detach()), rel=1e-5)
    assert not fast.losses.requires_grad
    assert torch.allclose(fast.losses, slow.losses, rtol=1e-5)
    for one, other in zip(vars(fast.logps).values(), vars(slow.logps).values(), strict=True):
        assert not one.requires_grad
        assert torch.allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("rows", [3, 512])
def test_gradients_are_the_slopes_of_the_values(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Central differences in float64 of hidden states, weight and bias."""
    blocks_of(monkeypatch, rows)

    tensors = parts(bias=True, dtype=torch.float64)

    def total(these: list[Tensor]) -> Tensor:
        return pair_losses_once(these[0], as_head(these), BATCH, objective(torch.float64)).total

    for tensor, gradient in zip(tensors, torch.autograd.grad(total(tensors), tensors), strict=True):
        for place in range(tensor.numel()):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [value.detach().clone() for value in tensors]
                next(value for value, same in zip(moved, tensors, strict=True) if same is tensor).view(-1)[
                    place
                ] += step
                ends.append(float(total(moved)))
            assert float(gradient.view(-1)[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_only_what_needs_a_gradient_gets_one(frozen: int) -> None:
    """A frozen head passes the gradient on, frozen hidden states stop it."""
    tensors = parts(bias=True)
    tensors[frozen].requires_grad_(False)
    pair_losses_once(tensors[0], as_head(tensors), BATCH, objective()).total.backward()
    assert [tensor.grad is None for tensor in tensors] == [index == frozen for index in range(3)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rows", [4, 512])
def test_scoring_and_training_give_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, rows: int, precision: str
) -> None:
    """So that the first loss is ln 2 exactly, also where rounding depends on what shares a product."""
    blocks_of(monkeypatch, rows)
    tensors = parts(bias=True)
    scored = pair_logps(token_logps(tensors[0], as_head(tensors, precision), BATCH), BATCH)
    trained = pair_losses_once(tensors[0], as_head(tensors, precision), BATCH, objective()).logps
    assert torch.equal(scored.chosen, trained.chosen)
    assert torch.equal(scored.rejected, trained.rejected)


def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation pays for the scores alone; the values are the same."""
    tensors = parts(bias=True)
    expected = pair_losses_once(tensors[0], as_head(tensors), BATCH, objective())
    monkeypatch.setattr(module._Walk, "_gradients", None)
    with torch.no_grad():
        found = pair_losses_once(tensors[0], as_head(tensors), BATCH, objective())
    assert torch.equal(found.losses, expected.losses)


def test_a_second_backward_is_refused() -> None:
    """What the backward pass gave away is not silently taken for the truth again."""
    tensors = parts(bias=False)
    total = pair_losses_once(tensors[0], as_head(tensors), BATCH, objective()).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        total.backward()


def test_two_micro_batches_add_up() -> None:
    """Gradients handed over by one micro-batch are added to by the next, not overwritten."""
    tensors = parts(bias=True)
    whole = torch.autograd.grad(pair_losses_once(tensors[0], as_head(tensors), BATCH, objective()).total, tensors)
    everything, at = objective(), 0
    for place, group in enumerate(GROUPS):
        batch: PairBatch = pack_groups([group])
        rows = slice(at, at + len(batch.target_ids))
        at = rows.stop
        one = PairObjective(
            lambda policy, places, shift=place: everything.losses_of(policy, places + shift),
            everything.weights[[place]],
        )
        pair_losses_once(tensors[0][rows], as_head(tensors), batch, one).total.backward()
    for tensor, expected in zip(tensors, whole, strict=True):
        assert tensor.grad is not None
        assert torch.allclose(tensor.grad, expected, rtol=1e-5, atol=1e-7)


def test_bf16_rounds_factors_only() -> None:
    """In bf16 the result is fp32 and within bf16 rounding of the fp32 result, and the setting is put back."""
    tensors = parts(bias=True)
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    fine = pair_losses_once(tensors[0], as_head(tensors), BATCH, objective())
    coarse = pair_losses_once(tensors[0], as_head(tensors, "bf16"), BATCH, objective())
    assert products.fp32_precision == before
    assert coarse.logps.chosen.dtype == torch.float32
    assert torch.allclose(coarse.logps.chosen, fine.logps.chosen, rtol=0.02, atol=0.05)
    coarse.total.backward()
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32


def test_a_loss_that_is_no_number_spoils_the_gradients_openly() -> None:
    """So that the update is refused, whatever the clipping."""
    tensors = parts(bias=False)
    broken = replace(objective(), losses_of=lambda policy, places: policy.chosen * math.nan)
    pair_losses_once(tensors[0], as_head(tensors), BATCH, broken).total.backward()
    assert all(tensor.grad is not None and bool(tensor.grad.isnan().any()) for tensor in tensors)
