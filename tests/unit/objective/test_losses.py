"""Losses against a float64 twin in NumPy, and against what is known of them where policy == reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from penchant.config import ObjectiveConfig
from penchant.objective.logps import PairLogps
from penchant.objective.losses import LOSSES, dpo, margin, pair_losses, sft

COUNTS = (np.array([3.0, 7.0, 1.0, 20.0]), np.array([5.0, 2.0, 4.0, 11.0]))


def tables() -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of policy and reference, shape (2, pairs) each: chosen, rejected."""
    draw = np.random.default_rng(0)
    return -60 * draw.random((2, 4)), -60 * draw.random((2, 4))


def numpy_loss(loss: str, logps: str, beta: float, smoothing: float) -> np.ndarray:
    """The twin: log(1 + exp(-x)) written out, no torch, no code of the project."""
    policy, reference = tables()
    if logps == "mean":
        policy, reference = policy / np.stack(COUNTS), reference / np.stack(COUNTS)
    if loss == "sft":
        return -policy[0]
    x = beta * (policy[0] - policy[1] - reference[0] + reference[1])
    return (1 - smoothing) * np.logaddexp(0, -x) + smoothing * np.logaddexp(0, x)


def as_logps(table: np.ndarray) -> PairLogps:
    chosen, rejected = torch.tensor(table)
    return PairLogps(chosen, rejected, torch.tensor(COUNTS[0]), torch.tensor(COUNTS[1]))


@pytest.mark.parametrize("logps", ["sum", "mean"])
@pytest.mark.parametrize(("beta", "smoothing"), [(0.1, 0.0), (0.5, 0.2), (3.0, 0.0)])
def test_dpo_is_its_numpy_twin(logps: Any, beta: float, smoothing: float) -> None:
    """Value by value in float64, through the table that the configuration chooses from."""
    policy, reference = map(as_logps, tables())
    config = ObjectiveConfig(beta=beta, label_smoothing=smoothing, logps=logps)  # type: ignore[call-arg]
    found = pair_losses(config)(policy, reference)
    np.testing.assert_allclose(found.numpy(), numpy_loss("dpo", logps, beta, smoothing), rtol=1e-12)


@pytest.mark.parametrize("logps", ["sum", "mean"])
def test_sft_is_its_numpy_twin(logps: Any) -> None:
    """The chosen response's negative log-likelihood; no reference is looked at."""
    config = ObjectiveConfig(loss="sft", logps=logps)  # type: ignore[call-arg]
    found = pair_losses(config)(as_logps(tables()[0]), None)
    np.testing.assert_allclose(found.numpy(), numpy_loss("sft", logps, 0, 0), rtol=1e-12)


@pytest.mark.parametrize(("beta", "smoothing"), [(0.1, 0.0), (0.3, 0.25)])
def test_at_the_reference_dpo_is_ln_2_with_the_documented_slope(beta: float, smoothing: float) -> None:
    """d loss / d margin = -beta / 2 (1 - 2 smoothing): on the chosen that, on the rejected its negative."""
    reference = as_logps(tables()[0])
    chosen = reference.chosen.clone().requires_grad_()
    rejected = reference.rejected.clone().requires_grad_()
    policy = PairLogps(chosen, rejected, reference.chosen_tokens, reference.rejected_tokens)
    losses = dpo(policy, reference, beta=beta, label_smoothing=smoothing)
    assert LOSSES["dpo"].at_reference == math.log(2)
    np.testing.assert_allclose(losses.detach().numpy(), math.log(2), rtol=1e-12)
    slopes = torch.autograd.grad(losses.sum(), (chosen, rejected))
    expected = -beta / 2 * (1 - 2 * smoothing)
    np.testing.assert_allclose(slopes[0].numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(slopes[1].numpy(), -expected, rtol=1e-12)


def test_dpo_stays_finite_far_away() -> None:
    """A margin of a million nats has a finite loss and slope in fp32 (a plain log(sigmoid) has not)."""
    zero, one = torch.zeros(2), torch.ones(2)
    chosen = torch.tensor([1e6, -1e6], requires_grad=True)
    losses = dpo(PairLogps(chosen, zero, one, one), PairLogps(zero, zero, one, one), beta=1.0)
    assert losses.tolist() == [0.0, 1e6]
    assert torch.autograd.grad(losses.sum(), chosen)[0].tolist() == [0.0, -1.0]


def test_the_margin_is_unscaled() -> None:
    """Chosen log-ratio minus rejected log-ratio, by hand."""
    one = torch.ones(1)
    policy = PairLogps(torch.tensor([-2.0]), torch.tensor([-7.0]), one, one)
    reference = PairLogps(torch.tensor([-3.0]), torch.tensor([-5.0]), one, one)
    assert margin(policy, reference).item() == 3.0
    assert sft(policy).item() == 2.0


def test_a_missing_reference_is_refused() -> None:
    """A loss that needs the reference does not go on without it."""
    with pytest.raises(ValueError, match="needs the reference"):
        pair_losses(ObjectiveConfig())(as_logps(tables()[0]), None)  # type: ignore[call-arg]
    assert LOSSES["dpo"].needs_reference
    assert not LOSSES["sft"].needs_reference


def test_the_table_knows_every_configurable_loss() -> None:
    """One entry each, with its equation and paper."""
    choices = ObjectiveConfig.model_fields["loss"].annotation
    assert set(LOSSES) == set(choices.__args__)  # type: ignore[union-attr]
    assert all(loss.equation and loss.paper for loss in LOSSES.values())
