"""Losses: pure functions of log-probabilities, one number a pair; and the table that describes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from penchant.config import ObjectiveConfig
from penchant.objective.head import PairObjective
from penchant.objective.logps import PairLogps


def dpo(policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Return the DPO loss of each pair, shape (pairs,).

    Rafailov et al. 2023 (arXiv:2305.18290), Eq. 7; with `label_smoothing` > 0 the conservative form
    (Mitchell 2023, "A note on DPO with noisy preferences", Eq. 3).

    Args:
        policy: Log-probabilities under the policy, nats.
        reference: The same under the frozen reference: same pairs, same order.
        beta: Strength of the tie to the reference, > 0.
        label_smoothing: Assumed share of flipped labels, in [0, 0.5).

    At policy == reference the loss is ln 2, and its slope in the margin -beta / 2 * (1 - 2 * label_smoothing).
    """
    scaled = beta * margin(policy, reference)
    return -(1 - label_smoothing) * logsigmoid(scaled) - label_smoothing * logsigmoid(-scaled)


def sft(policy: PairLogps) -> Tensor:
    """Return the negative log-likelihood of each chosen response, shape (pairs,)."""
    return -policy.chosen


def margin(policy: PairLogps, reference: PairLogps) -> Tensor:
    """Return chosen log-ratio minus rejected log-ratio, nats, shape (pairs,)."""
    return (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)


@dataclass(frozen=True)
class Loss:
    """What is known about a loss.

    Attributes:
        equation: The loss of one pair.
        paper: Where it comes from.
        needs_reference: Whether the reference is scored for it.
        at_reference: Its value where policy == reference, or None when that depends on the data.
    """

    equation: str
    paper: str
    needs_reference: bool
    at_reference: float | None


LOSSES: dict[str, Loss] = {
    "dpo": Loss(
        "-log sigmoid(beta * ((chosen - chosen_ref) - (rejected - rejected_ref)))",
        "Rafailov et al. 2023, arXiv:2305.18290, Eq. 7",
        needs_reference=True,
        at_reference=math.log(2),
    ),
    "sft": Loss("-chosen", "maximum likelihood", needs_reference=False, at_reference=None),
}


def pair_losses(config: ObjectiveConfig) -> Callable[[PairLogps, PairLogps | None], Tensor]:
    """Return the configured loss as a function of policy and reference log-probabilities."""

    def losses(policy: PairLogps, reference: PairLogps | None) -> Tensor:
        if config.logps == "mean":
            policy, reference = policy.mean(), reference.mean() if reference else None
        if config.loss == "sft":
            return sft(policy)
        if reference is None:
            raise ValueError(f"the loss {config.loss} needs the reference")
        return dpo(policy, reference, beta=config.beta, label_smoothing=config.label_smoothing)

    return losses


def pair_objective(config: ObjectiveConfig, reference: PairLogps | None, weights: Tensor) -> PairObjective:
    """Return the configured loss as what is minimised over a micro-batch.

    Args:
        config: Which loss, and its options.
        reference: Log-probabilities of the micro-batch's pairs; None where the loss needs none.
        weights: Of each pair, shape (pairs,): one over the pairs of the whole step gives the step's mean loss,
            however the step was split.
    """
    losses = pair_losses(config)
    return PairObjective(
        lambda policy, places: losses(policy, None if reference is None else reference.select(places)), weights
    )
