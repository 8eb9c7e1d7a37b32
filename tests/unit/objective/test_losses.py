"""Losses against float64 twins written from the papers, and against what the table says of policy == reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracles import numpy_losses as twin
from tests.oracles.numpy_losses import Pairs

from penchant.config import OBJECTIVE_OPTIONS, ObjectiveConfig
from penchant.objective.logps import PairLogps, beyond_shorter
from penchant.objective.loss_table import LOSSES, loss_at_reference, pair_losses, uses_means
from penchant.objective.losses import dpo, margin, sft
from penchant.objective.pair_facts import PairFacts, step_statistics

COUNT = 9
RELATIVE = 1e-11


def draw(seed: int = 0) -> Pairs:
    """Log-probabilities some nats apart, on both sides of the reference."""
    coin = np.random.default_rng(seed)
    reference = -40 * coin.random((2, COUNT)) - 3
    policy = reference + 4 * coin.standard_normal((2, COUNT))
    return Pairs(
        *np.minimum(policy, -0.5),
        *reference,
        *coin.integers(2, 30, (2, COUNT)).astype(float),
        margin=None,
    )


PAIRS = draw()
MARGINS = np.linspace(-0.5, 2, COUNT)
FLIPPED = np.linspace(0.05, 0.45, COUNT)
AGREEMENT = -np.linspace(0, 1, 2 * COUNT).reshape(COUNT, 2)


def logps(pairs: Pairs) -> tuple[PairLogps, PairLogps]:
    """Policy (to be differentiated) and reference as the losses take them."""
    columns = {name: torch.tensor(value) for name, value in vars(pairs).items() if value is not None}
    chosen_tokens, rejected_tokens = columns["chosen_tokens"], columns["rejected_tokens"]
    chosen, rejected = (columns[f"policy_{side}"].requires_grad_() for side in ("chosen", "rejected"))
    reference = PairLogps(
        columns["reference_chosen"], columns["reference_rejected"], chosen_tokens, rejected_tokens
    )
    return PairLogps(chosen, rejected, chosen_tokens, rejected_tokens), reference


Twin = Callable[[Pairs], np.ndarray]
CASES: list[tuple[dict[str, Any], Twin]] = [
    ({"loss": "dpo"}, lambda p: twin.dpo(p, 0.1)),
    ({"loss": "dpo", "beta": 0.7, "label_smoothing": 0.2}, lambda p: twin.dpo(p, 0.7, 0.2)),
    ({"loss": "dpo", "logps": "mean", "beta": 5.0}, lambda p: twin.dpo(twin.means(p), 5.0)),
    ({"loss": "dpo", "margin_scale": 0.5}, lambda p: twin.dpo(replace(p, margin=0.5 * MARGINS), 0.1)),
    ({"loss": "dpo", "label_confidence": True}, lambda p: twin.dpo(p, 0.1, FLIPPED)),
    ({"loss": "dpo", "nll_weight": 0.3}, lambda p: twin.dpo(p, 0.1) + twin.nll(p, 0.3)),
    ({"loss": "dpo", "divergence": "forward_kl"}, lambda p: twin.f_dpo(p, 0.1, "forward_kl")),
    ({"loss": "dpo", "divergence": "js"}, lambda p: twin.f_dpo(p, 0.1, "js_divergence")),
    (
        {"loss": "dpo", "divergence": "alpha", "divergence_alpha": 0.3},
        lambda p: twin.f_dpo(p, 0.1, "alpha", alpha=0.3),
    ),
    (
        {"loss": "dpo", "wpo": True},
        lambda p: np.minimum(1, np.exp(AGREEMENT.sum(1))) * twin.dpo(p, 0.1),
    ),
    ({"loss": "robust"}, lambda p: twin.robust(p, 0.1, 0.1)),
    ({"loss": "robust", "label_confidence": True}, lambda p: twin.robust(p, 0.1, FLIPPED)),
    ({"loss": "robust", "margin_scale": 1.0}, lambda p: twin.robust(replace(p, margin=MARGINS), 0.1, 0.1)),
    ({"loss": "hinge"}, lambda p: twin.hinge(p, 0.1)),
    ({"loss": "hinge", "margin_scale": 1.0}, lambda p: twin.hinge(replace(p, margin=MARGINS), 0.1)),
    ({"loss": "ipo"}, lambda p: twin.ipo(p, 0.1)),
    ({"loss": "ipo", "logps": "mean"}, lambda p: twin.ipo(twin.means(p), 0.1)),
    ({"loss": "simpo"}, lambda p: twin.simpo(p, 2.0, 1.0)),
    ({"loss": "simpo", "margin_scale": 1.0}, lambda p: twin.simpo(replace(p, margin=MARGINS), 2.0, 1.0)),
    ({"loss": "orpo"}, lambda p: twin.orpo(p, 0.1)),
    ({"loss": "cpo", "nll_weight": 0.0}, lambda p: twin.cpo(p, 0.1, nll_weight=0.0)),
    ({"loss": "cpo"}, lambda p: twin.cpo(p, 0.1, nll_weight=0.0) + twin.nll(p, 1.0)),
    ({"loss": "dpop", "penalty": 3.0}, lambda p: twin.dpop(p, 0.1, 3.0)),
    ({"loss": "dpop", "margin_scale": 1.0}, lambda p: twin.dpop(replace(p, margin=MARGINS), 0.1, 50.0)),
    ({"loss": "apo_zero"}, lambda p: 1 + twin.apo_zero(p, 0.1)),  # the twin is the paper's, which goes below zero
    ({"loss": "apo_down"}, lambda p: 1 + twin.apo_down(p, 0.1)),
    ({"loss": "exo"}, lambda p: twin.exo(p, 0.1, 1e-3)),
    ({"loss": "exo", "label_confidence": True}, lambda p: twin.exo(p, 0.1, FLIPPED)),
    ({"loss": "nca"}, lambda p: twin.nca(p, 0.1)),
    ({"loss": "sppo", "beta": 0.01}, lambda p: twin.sppo(p, 0.01)),
    ({"loss": "bco"}, lambda p: twin.bco(p, 0.1, twin.bco_delta(PAIRS, 0.1))),
    (
        {"loss": "bco", "logps": "mean"},
        lambda p: twin.bco(twin.means(p), 0.1, twin.bco_delta(twin.means(PAIRS), 0.1)),
    ),
    ({"loss": "aot", "label_smoothing": 0.1}, lambda p: twin.aot(p, 0.1, 0.1)),
    ({"loss": "aot", "logps": "mean"}, lambda p: twin.aot(twin.means(p), 0.1)),
    ({"loss": "discopop"}, lambda p: twin.discopop(p, 0.1)),
    ({"loss": "discopop", "margin_scale": 1.0}, lambda p: twin.discopop(replace(p, margin=MARGINS), 0.1)),
    ({"loss": "sft"}, lambda p: -p.policy_chosen),
    ({"loss": "sft", "logps": "mean"}, lambda p: twin.nll(p, 1.0)),
    (
        {"loss": {"dpo": 2.0, "hinge": 0.5, "bco": 1.0}},
        lambda p: 2 * twin.dpo(p, 0.1) + 0.5 * twin.hinge(p, 0.1) + twin.bco(p, 0.1, twin.bco_delta(PAIRS, 0.1)),
    ),
]


def name_of(case: object) -> str:
    return str(case) if isinstance(case, dict) else ""


def facts_for(config: ObjectiveConfig, policy: PairLogps, reference: PairLogps) -> PairFacts:
    if uses_means(config):
        policy, reference = policy.mean(), reference.mean()
    return PairFacts(
        torch.ones(COUNT),
        config.margin_scale * torch.tensor(MARGINS) if config.margin_scale else None,
        torch.tensor(FLIPPED) if config.label_confidence else None,
        statistics=step_statistics(config, policy, reference, torch.tensor(AGREEMENT)),
    )


@pytest.mark.parametrize(("options", "expected"), CASES, ids=name_of)
def test_values_and_gradients_are_those_of_the_twin(options: dict[str, Any], expected: Twin) -> None:
    """In float64, through the table that the configuration chooses from; slopes by both sides."""
    config = ObjectiveConfig.model_validate(options)
    policy, reference = logps(PAIRS)
    found = pair_losses(config)(policy, reference, facts_for(config, policy, reference))
    np.testing.assert_allclose(found.detach().numpy(), expected(PAIRS), rtol=RELATIVE, atol=1e-13)
    slopes = torch.autograd.grad(found.sum(), (policy.chosen, policy.rejected), allow_unused=True)
    for field, slope in zip(("policy_chosen", "policy_rejected"), slopes, strict=True):
        own = np.zeros(COUNT) if slope is None else slope.numpy()
        np.testing.assert_allclose(own, twin.gradient(expected, PAIRS, field), rtol=1e-9, atol=1e-12)


def test_every_loss_and_option_is_compared() -> None:
    """Weights of pairs and the sums themselves are the business of other tests."""
    compared = {name for options, _ in CASES for name in ObjectiveConfig.model_validate(options).losses}
    assert compared | {"kto"} == set(LOSSES) == set(OBJECTIVE_OPTIONS)


@pytest.mark.parametrize(("wanted", "unwanted"), [(1.0, 1.0), (1.5, 0.5)])
def test_kto_is_its_twin(wanted: float, unwanted: float) -> None:
    """Single responses; the second column holds the responses to other prompts."""
    config = ObjectiveConfig.model_validate(
        {"loss": "kto", "desirable_weight": wanted, "undesirable_weight": unwanted}
    )
    policy, reference = logps(PAIRS)
    labels = np.arange(COUNT) % 3 > 0
    facts = PairFacts(
        torch.ones(COUNT),
        desirable=torch.tensor(labels),
        statistics=step_statistics(config, policy, reference, None),
    )
    found = pair_losses(config)(policy, reference, facts)
    divergence = twin.kto_kl(PAIRS.policy_rejected, PAIRS.reference_rejected)
    responses = twin.Responses(PAIRS.policy_chosen, PAIRS.reference_chosen, labels)

    def expected(step: twin.Responses) -> np.ndarray:
        return twin.kto(step, 0.1, divergence, wanted, unwanted)

    np.testing.assert_allclose(found.detach().numpy(), expected(responses), rtol=1e-7)
    (slope,) = torch.autograd.grad(found.sum(), policy.chosen)
    np.testing.assert_allclose(slope.numpy(), twin.gradient(expected, responses, "policy"), rtol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_at_the_reference_losses_are_what_the_table_says(name: str) -> None:
    """Value and slope where policy == reference, with the loss's own defaults."""
    config = ObjectiveConfig.model_validate({"loss": name})
    _, reference = logps(PAIRS)
    policy = replace(reference, chosen=reference.chosen.clone(), rejected=reference.rejected.clone())
    policy.chosen.requires_grad_()
    policy.rejected.requires_grad_()
    facts = replace(facts_for(config, policy, reference), desirable=torch.arange(COUNT) % 2 == 0)
    losses = pair_losses(config)(policy, reference, facts)
    value, slope = LOSSES[name].at_reference(config), LOSSES[name].slope(config)
    if value is not None:
        np.testing.assert_allclose(losses.detach().numpy(), value, rtol=1e-12)
    slopes = torch.autograd.grad(losses.sum(), (policy.chosen, policy.rejected), allow_unused=True)
    if slope is not None:
        assert slopes[0] is not None
        assert slopes[1] is not None
        np.testing.assert_allclose((0.5 * (slopes[0] - slopes[1])).numpy(), slope, rtol=1e-9)
    elif LOSSES[name].needs_reference:
        assert name == "kto"


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, math.log(2)),
        ({"loss": {"dpo": 2, "hinge": 0.5}}, 2 * math.log(2) + 0.5),
        ({"loss": {"dpo": 1, "sft": 1}, "logps": "sum"}, None),
        ({"nll_weight": 0.1}, None),
        ({"pair_weights": True}, None),
        ({"loss": "simpo"}, None),
    ],
)
def test_the_loss_at_the_start_is_known_or_not(options: dict[str, Any], value: float | None) -> None:
    assert loss_at_reference(ObjectiveConfig.model_validate(options)) == value


def test_tokens_beyond_the_shorter_response_count_less() -> None:
    """LD-DPO's weights, against the twin's own sum."""
    lengths = torch.tensor([[2, 5], [3, 3], [4, 1]])
    weights = beyond_shorter(lengths, 0.25)
    assert weights.tolist() == [1, 1, 1, 1, 0.25, 0.25, 0.25, 1, 1, 1, 1, 1, 1, 1, 0.25, 0.25, 0.25, 1]
    terms = np.linspace(-3, -1, int(lengths.sum()))
    parts = np.split(terms, np.cumsum(lengths.flatten().numpy())[:-1])
    shorter = np.repeat(lengths.min(1).values.numpy(), 2)
    expected = [twin.ld_sum(part, int(short), 0.25) for part, short in zip(parts, shorter, strict=True)]
    found = [float(part.sum()) for part in torch.split(weights * torch.tensor(terms), lengths.flatten().tolist())]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_losses_stay_finite_far_away() -> None:
    """A margin of a million nats has a finite loss and slope in fp32 (a plain log(sigmoid) has not)."""
    zero, one = torch.zeros(2), torch.ones(2)
    chosen = torch.tensor([1e6, -1e6], requires_grad=True)
    losses = dpo(PairLogps(chosen, zero, one, one), PairLogps(zero, zero, one, one), beta=1.0)
    assert losses.tolist() == [0.0, 1e6]
    assert torch.autograd.grad(losses.sum(), chosen)[0].tolist() == [0.0, -1.0]


@pytest.mark.parametrize("nats", [-1e-7, -1e-3, -0.5, -0.9, -30.0, -300.0])
def test_odds_are_exact_at_both_ends(nats: float) -> None:
    """ORPO's log odds in fp32 for responses that are nearly certain and nearly impossible; slopes are numbers."""
    config = ObjectiveConfig.model_validate({"loss": "orpo", "beta": 1.0})
    one = torch.ones(1)
    chosen, rejected = torch.tensor([nats], requires_grad=True), torch.tensor([-0.7], requires_grad=True)
    loss = pair_losses(config)(PairLogps(chosen, rejected, one, one), None)
    exact = float(chosen.detach().double())
    odds = (exact - math.log(-math.expm1(exact))) - (-0.7 - math.log(-math.expm1(-0.7)))
    assert float(loss.detach()) == pytest.approx(
        -exact + math.log1p(math.exp(-odds)) if odds > -50 else -exact - odds, rel=1e-5
    )
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(loss.sum(), (chosen, rejected)))


def test_the_margin_is_unscaled() -> None:
    """Chosen log-ratio minus rejected log-ratio, by hand."""
    one = torch.ones(1)
    policy = PairLogps(torch.tensor([-2.0]), torch.tensor([-7.0]), one, one)
    reference = PairLogps(torch.tensor([-3.0]), torch.tensor([-5.0]), one, one)
    assert margin(policy, reference).item() == 3.0
    assert sft(policy).item() == 2.0


def test_a_missing_reference_is_refused() -> None:
    """A loss that needs the reference does not go on without it, one that does not never asks."""
    policy, _ = logps(PAIRS)
    with pytest.raises(ValueError, match="needs the reference"):
        pair_losses(ObjectiveConfig())(policy, None)  # type: ignore[call-arg]
    for name, loss in LOSSES.items():
        if not loss.needs_reference:
            pair_losses(ObjectiveConfig.model_validate({"loss": name}))(policy, None)
