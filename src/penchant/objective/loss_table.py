"""The table of losses: what each is called, where it comes from, and how it is made from a configuration.

docs/losses.md is written from this table by `python -m penchant.objective.loss_table`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from penchant.config import ObjectiveConfig
from penchant.objective import losses
from penchant.objective.head import PairObjective
from penchant.objective.logps import PairLogps
from penchant.objective.losses import Number
from penchant.objective.pair_facts import PairFacts

PairLoss = Callable[[PairLogps, PairLogps, ObjectiveConfig, PairFacts], Tensor]
OfConfig = Callable[[ObjectiveConfig], float | None]


@dataclass(frozen=True)
class Loss:
    """What is known about a loss.

    Attributes:
        title: Its name in prose.
        equation: The loss of one pair; c and r are log-ratios of chosen and rejected, m = c - r.
        paper: Where it comes from.
        beta: What beta means for it.
        of: The loss of each pair, from policy, reference, configuration and facts. Without a reference the second
            argument is the policy again and not to be looked at.
        needs_reference: Whether the reference is scored for it.
        always_mean: Whether it is defined on per-token means only.
        at_reference: Its value where policy == reference, without a pair's own margin; None where that depends on
            the data.
        slope: Its slope there when the margin grows, half of it by each side; None where that depends on the data.
    """

    title: str
    equation: str
    paper: str
    beta: str
    of: PairLoss
    needs_reference: bool = True
    always_mean: bool = False
    at_reference: OfConfig = lambda _: None
    slope: OfConfig = lambda _: None


def _offset(facts: PairFacts) -> Number:
    return 0.0 if facts.offset is None else facts.offset


def _smoothing(config: ObjectiveConfig, facts: PairFacts) -> Number:
    return config.label_smoothing if facts.flipped is None else facts.flipped


def _kto(policy: PairLogps, reference: PairLogps, config: ObjectiveConfig, facts: PairFacts) -> Tensor:
    if facts.desirable is None:
        raise ValueError("KTO needs to know which responses are desirable")
    return losses.kto(
        policy.chosen - reference.chosen,
        beta=config.beta,
        divergence=facts.statistics["divergence"],
        desirable=facts.desirable,
        weight=torch.where(facts.desirable, config.desirable_weight, config.undesirable_weight),
    )


def _constant(value: float) -> OfConfig:
    return lambda _: value


def _bend(config: ObjectiveConfig) -> float:
    """f''(1) of the divergence."""
    return 0.5 if config.divergence == "js" else 1.0


def _exo_at_reference(config: ObjectiveConfig) -> float:
    smoothing = config.label_smoothing
    return -math.log(2) - 0.5 * (math.log1p(-smoothing) + math.log(smoothing))


_MEANS = ("mean", "mean_all")
_LN2 = _constant(math.log(2))
_TIE = "tie to the reference, per nat of the log-ratio"

LOSSES: dict[str, Loss] = {
    "dpo": Loss(
        "DPO (sigmoid)",
        "-(1 - e) log sigmoid(beta m - o) - e log sigmoid(o - beta m)",
        "Rafailov et al. 2023, arXiv:2305.18290, Eq. 7; e: Mitchell 2023, Eq. 3; o: Amini et al. 2024, "
        "arXiv:2402.10571, Eq. 8; other divergences: Wang et al. 2023, arXiv:2309.16240, Eq. 14",
        _TIE,
        lambda p, r, k, f: losses.dpo(
            p,
            r,
            beta=k.beta,
            label_smoothing=_smoothing(k, f),
            offset=_offset(f),
            divergence=k.divergence,
            divergence_alpha=k.divergence_alpha,
        ),
        at_reference=_LN2,
        slope=lambda k: -k.beta / 2 * (1 - 2 * k.label_smoothing) * _bend(k),
    ),
    "robust": Loss(
        "robust DPO",
        "(-(1 - e) log sigmoid(beta m - o) + e log sigmoid(o - beta m)) / (1 - 2 e)",
        "Chowdhury et al. 2024, arXiv:2403.00409, Sec. 3.1",
        _TIE,
        lambda p, r, k, f: losses.robust(p, r, beta=k.beta, label_smoothing=_smoothing(k, f), offset=_offset(f)),
        at_reference=_LN2,
        slope=lambda k: -k.beta / (2 * (1 - 2 * k.label_smoothing)),
    ),
    "hinge": Loss(
        "hinge (SLiC, RSO)",
        "max(0, 1 - (beta m - o))",
        "Zhao et al. 2023, arXiv:2305.10425; Liu et al. 2023, arXiv:2309.06657",
        "1 / the margin (nats) from which on a pair is left alone",
        lambda p, r, k, f: losses.hinge(p, r, beta=k.beta, offset=_offset(f)),
        at_reference=_constant(1.0),
        slope=lambda k: -k.beta,
    ),
    "ipo": Loss(
        "IPO",
        "(m - 1 / (2 beta))^2",
        "Azar et al. 2023, arXiv:2310.12036, Eq. 17",
        "1 / (2 x the margin aimed at): nats with logps: sum (the paper), nats per token with logps: mean",
        lambda p, r, k, f: losses.ipo(p, r, beta=k.beta),
        at_reference=lambda k: 1 / (4 * k.beta**2),
        slope=lambda k: -1 / k.beta,
    ),
    "simpo": Loss(
        "SimPO",
        "-log sigmoid(beta (mean log p(chosen) - mean log p(rejected)) - gamma - o)",
        "Meng et al. 2024, arXiv:2405.14734, Eq. 6",
        "scale of the reward, per nat per token",
        lambda p, r, k, f: losses.simpo(p, beta=k.beta, gamma=k.gamma, offset=_offset(f)),
        needs_reference=False,
        always_mean=True,
    ),
    "orpo": Loss(
        "ORPO",
        "-mean log p(chosen) - beta log sigmoid(log odds(chosen) - log odds(rejected))",
        "Hong et al. 2024, arXiv:2403.07691, Sec. 4",
        "weight of the odds ratio (the paper's lambda)",
        lambda p, r, k, f: losses.orpo(p, beta=k.beta),
        needs_reference=False,
        always_mean=True,
    ),
    "cpo": Loss(
        "CPO",
        "-log sigmoid(beta (log p(chosen) - log p(rejected)) - o)",
        "Xu et al. 2024, arXiv:2401.08417, Sec. 3",
        "scale of the reward, per nat",
        lambda p, r, k, f: losses.cpo(p, beta=k.beta, offset=_offset(f)),
        needs_reference=False,
    ),
    "dpop": Loss(
        "DPO-Positive",
        "-log sigmoid(beta (m - penalty max(0, -c)) - o)",
        "Pal et al. 2024, arXiv:2402.13228, Eq. 3",
        _TIE,
        lambda p, r, k, f: losses.dpop(p, r, beta=k.beta, penalty=k.penalty, offset=_offset(f)),
        at_reference=_LN2,
        slope=lambda k: -k.beta / 2,
    ),
    "apo_zero": Loss(
        "APO-zero",
        "1 - sigmoid(beta c) + sigmoid(beta r)",
        "D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7",
        _TIE,
        lambda p, r, k, f: losses.apo_zero(p, r, beta=k.beta),
        at_reference=_constant(1.0),
        slope=lambda k: -k.beta / 4,
    ),
    "apo_down": Loss(
        "APO-down",
        "sigmoid(beta c) + 1 - sigmoid(beta m)",
        "D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 8",
        _TIE,
        lambda p, r, k, f: losses.apo_down(p, r, beta=k.beta),
        at_reference=_constant(1.0),
        slope=lambda k: -k.beta / 8,
    ),
    "exo": Loss(
        "EXO",
        "KL((sigmoid(beta m), sigmoid(-beta m)) || (1 - e, e)), e > 0",
        "Ji et al. 2024, arXiv:2402.00856, Eq. 16",
        _TIE,
        lambda p, r, k, f: losses.exo(p, r, beta=k.beta, label_smoothing=_smoothing(k, f)),
        at_reference=_exo_at_reference,
        slope=lambda k: -k.beta / 4 * math.log((1 - k.label_smoothing) / k.label_smoothing),
    ),
    "nca": Loss(
        "NCA",
        "-log sigmoid(beta c) - 0.5 log sigmoid(-beta c) - 0.5 log sigmoid(-beta r)",
        "Chen et al. 2024, arXiv:2402.05369, Sec. 4",
        _TIE,
        lambda p, r, k, f: losses.nca(p, r, beta=k.beta),
        at_reference=_constant(2 * math.log(2)),
        slope=lambda k: -k.beta / 4,
    ),
    "sppo": Loss(
        "SPPO, certain labels",
        "(c - 1 / (2 beta))^2 + (r + 1 / (2 beta))^2",
        "Wu et al. 2024, arXiv:2405.00675, Eq. 4.7",
        "1 / (2 x the log-ratio aimed at, nats): the paper's 1 / eta",
        lambda p, r, k, f: losses.sppo(p, r, beta=k.beta),
        at_reference=lambda k: 1 / (2 * k.beta**2),
        slope=lambda k: -1 / k.beta,
    ),
    "bco": Loss(
        "BCO",
        "-log sigmoid(beta c - d) - log sigmoid(d - beta r), d the mean reward of the step",
        "Jung et al. 2024, arXiv:2404.04656, Sec. 4",
        _TIE,
        lambda p, r, k, f: losses.bco(p, r, beta=k.beta, shift=f.statistics["shift"]),
        at_reference=_constant(2 * math.log(2)),
        slope=lambda k: -k.beta / 2,
    ),
    "aot": Loss(
        "AOT",
        "DPO's loss, m the step's k-th largest log p(chosen) - log p(rejected) minus the reference's k-th largest",
        "Melnyk et al. 2024, arXiv:2406.05882, Sec. 3",
        _TIE,
        lambda p, r, k, f: losses.aot(
            p, beta=k.beta, rival=f.statistics["rival"], label_smoothing=k.label_smoothing
        ),
        at_reference=_LN2,
        slope=lambda k: -k.beta / 2 * (1 - 2 * k.label_smoothing),
    ),
    "discopop": Loss(
        "DiscoPOP",
        "(1 - s) (-log sigmoid(l)) + s exp(-l), l = beta m - o, s = sigmoid(l / tau)",
        "Lu et al. 2024, arXiv:2406.08414, Eq. 5",
        _TIE,
        lambda p, r, k, f: losses.discopop(p, r, beta=k.beta, tau=k.tau, offset=_offset(f)),
        at_reference=_constant((math.log(2) + 1) / 2),
        slope=lambda k: k.beta * (-0.75 + (1 - math.log(2)) / (4 * k.tau)),
    ),
    "kto": Loss(
        "KTO",
        "w (1 - sigmoid(beta (c - z))) if desirable, w (1 - sigmoid(beta (z - c))) if not; z = max(0, mean "
        "log-ratio of responses to other prompts)",
        "Ethayarajh et al. 2024, arXiv:2402.01306, Eq. 8",
        _TIE,
        _kto,
        at_reference=lambda k: k.desirable_weight / 2 if k.desirable_weight == k.undesirable_weight else None,
    ),
    "sft": Loss(
        "likelihood",
        "-log p(chosen)",
        "maximum likelihood",
        "not used",
        lambda p, r, k, f: losses.sft(p),
        needs_reference=False,
    ),
}


def needs_reference(config: ObjectiveConfig) -> bool:
    """Return whether any of the configured losses needs the reference."""
    return any(LOSSES[name].needs_reference for name in config.losses)


def uses_means(config: ObjectiveConfig) -> bool:
    """Return whether rewards are made of per-token means rather than sums."""
    return config.logps in _MEANS or all(LOSSES[name].always_mean for name in config.losses)


def loss_at_reference(config: ObjectiveConfig) -> float | None:
    """Return the configured loss where policy == reference; None where that depends on the data."""
    if config.nll_weight or config.margin_scale or config.label_confidence or config.pair_weights or config.wpo:
        return None
    values = [(weight, LOSSES[name].at_reference(config)) for name, weight in config.losses.items()]
    known = [weight * value for weight, value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None


class LossOfPairs(Protocol):
    """The configured loss: from log-probability sums of policy and reference to one number a pair."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, facts: PairFacts | None = None) -> Tensor:
        """Return the loss of each pair, shape (pairs,)."""
        ...


def pair_losses(config: ObjectiveConfig) -> LossOfPairs:
    """Return the configured loss as a function of log-probability sums of policy and reference, and facts."""

    def of(policy: PairLogps, reference: PairLogps | None, facts: PairFacts | None = None) -> Tensor:
        facts = PairFacts(torch.ones_like(policy.chosen)) if facts is None else facts
        if reference is None and needs_reference(config):
            raise ValueError(f"the loss {config.loss} needs the reference")
        total = torch.zeros_like(policy.chosen)
        for name, weight in config.losses.items():
            loss = LOSSES[name]
            mean = loss.always_mean or config.logps in _MEANS
            mine = policy.mean() if mean else policy
            theirs = mine if reference is None else reference.mean() if mean else reference
            total = total + weight * loss.of(mine, theirs, config, facts)
        if config.wpo:
            total = facts.statistics["wpo"] * total
        return total - config.nll_weight * policy.mean().chosen if config.nll_weight else total

    return of


def pair_objective(config: ObjectiveConfig, reference: PairLogps | None, facts: PairFacts) -> PairObjective:
    """Return the configured loss as what is minimised over a micro-batch.

    Args:
        config: Which losses, and their options.
        reference: Log-probabilities of the micro-batch's pairs; None where the loss needs none.
        facts: Of the micro-batch's pairs.
    """
    losses_of = pair_losses(config)
    return PairObjective(
        lambda policy, places: losses_of(
            policy, None if reference is None else reference.select(places), facts.select(places)
        ),
        facts.share,
        config.ld_alpha,
    )
