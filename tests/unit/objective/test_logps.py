"""The chunked head against plain log_softmax, and sums per response."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import penchant.objective.logps as module
from penchant.batching.pair_batch import Group, pack_groups
from penchant.objective.logps import PairLogps, head_token_logps, pair_logps

ROWS, WIDTH, VOCAB = 11, 8, 23


def parts(*, bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight = torch.randn(VOCAB, WIDTH, requires_grad=True)
    offset = torch.randn(VOCAB, requires_grad=True) if bias else None
    targets = torch.randint(0, VOCAB, (ROWS,))
    targets[1] = targets[0]  # one token twice: its gradient adds up
    return hidden, weight, offset, targets


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    scores = hidden @ weight.T + (0 if bias is None else bias)
    return torch.log_softmax(scores, dim=-1).gather(-1, targets[:, None]).squeeze(-1)


@pytest.mark.parametrize("rows", [1, 4, 11, 512])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_log_softmax(
    monkeypatch: pytest.MonkeyPatch, bias: bool, rows: int
) -> None:
    """For any number of rows in a chunk, the last chunk full or not, with and without a bias."""
    monkeypatch.setattr(module, "_HEAD_ROWS", rows)
    hidden, weight, offset, targets = parts(bias=bias)
    inputs = [tensor for tensor in (hidden, weight, offset) if tensor is not None]
    slopes = torch.linspace(-2, 3, ROWS)
    expected = plain(hidden, weight, offset, targets)
    wanted = torch.autograd.grad(expected, inputs, slopes)
    found = head_token_logps(hidden, weight, offset, targets, "fp32")
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(torch.autograd.grad(found, inputs, slopes), wanted, strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())


@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_the_slopes_of_the_values(bias: bool) -> None:
    """A small step along a random direction changes the sum by the gradient times the step (fp64 differences
    of a float64 twin, so that rounding hides nothing)."""
    hidden, weight, offset, targets = parts(bias=bias)
    inputs = [tensor for tensor in (hidden, weight, offset) if tensor is not None]
    found = torch.autograd.grad(head_token_logps(hidden, weight, offset, targets, "fp32").sum(), inputs)
    for position, (tensor, gradient) in enumerate(zip(inputs, found, strict=True)):
        direction = torch.randn_like(tensor).double()
        ends = []
        for sign in (1, -1):
            moved = [value.detach().double() for value in inputs]
            moved[position] = moved[position] + sign * 1e-5 * direction
            ends.append(float(plain(moved[0], moved[1], moved[2] if bias else None, targets).sum()))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float((gradient.double() * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_only_what_needs_a_gradient_gets_one() -> None:
    """A frozen head passes the gradient on, frozen hidden states stop it."""
    hidden, weight, offset, targets = parts(bias=True)
    weight.requires_grad_(False)
    head_token_logps(hidden, weight, offset, targets, "fp32").sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None
    assert offset is not None
    assert offset.grad is not None
    weight.requires_grad_(True)
    head_token_logps(hidden.detach(), weight, None, targets, "fp32").sum().backward()
    assert weight.grad is not None


def test_nothing_is_kept_without_gradients() -> None:
    """Scoring holds no probabilities; the values are the same."""
    hidden, weight, offset, targets = parts(bias=True)
    with torch.no_grad():
        scored = head_token_logps(hidden, weight, offset, targets, "fp32")
    assert scored.grad_fn is None
    assert torch.equal(scored, head_token_logps(hidden, weight, offset, targets, "fp32").detach())


def test_a_second_backward_is_refused() -> None:
    """What the backward pass used up is not silently taken for the truth again."""
    hidden, weight, _, targets = parts(bias=False)
    total = head_token_logps(hidden, weight, None, targets, "fp32").sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        total.backward()


def test_bf16_rounds_factors_only() -> None:
    """In bf16 the result is fp32 and within bf16 rounding of the fp32 result, and the setting is put back."""
    hidden, weight, offset, targets = parts(bias=True)
    before = torch.get_float32_matmul_precision()
    found = head_token_logps(hidden, weight, offset, targets, "bf16")
    assert torch.get_float32_matmul_precision() == before
    assert found.dtype == torch.float32
    assert torch.allclose(found, plain(hidden, weight, offset, targets), rtol=0.05, atol=0.1)
    found.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32


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


def test_mean_keeps_the_counts() -> None:
    """A mean of a mean would divide twice; the counts stay so that it can be seen."""
    logps = PairLogps(*(torch.tensor([value]) for value in (-6.0, -4.0, 3.0, 2.0)))
    assert logps.mean().chosen_tokens.item() == 3.0
