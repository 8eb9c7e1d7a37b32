"""Losses: pure functions of log-probabilities, one number a pair.

`policy` and `reference` are `PairLogps` of the same pairs in the same order, in nats: sums over each response, or
means, as the caller chose. Everything else is a keyword: floats, or one number a pair. What each loss is called,
and what is known about it, stands in `penchant.objective.loss_table`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from penchant.objective.logps import PairLogps

Number = float | Tensor  # the same for all pairs, or one a pair: shape (pairs,)


def log_ratios(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """Return log(policy / reference) of the chosen and of the rejected responses, nats, shape (pairs,) each."""
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def margin(policy: PairLogps, reference: PairLogps) -> Tensor:
    """Return chosen log-ratio minus rejected log-ratio, nats, shape (pairs,)."""
    chosen, rejected = log_ratios(policy, reference)
    return chosen - rejected


def derivative(log_ratio: Tensor, divergence: str, alpha: float) -> Tensor:
    """Return f'(u) of an f-divergence at u = policy / reference, up to a constant, which cancels in a margin.

    Wang et al. 2023 (arXiv:2309.16240), Table 1. All are scaled so that f''(1) = 1, but for Jensen-Shannon, where
    it is 1/2.

    Args:
        log_ratio: log u.
        divergence: reverse_kl, forward_kl, js or alpha.
        alpha: Of the alpha divergence: towards 0 it is reverse_kl, towards 1 forward_kl.
    """
    if divergence == "forward_kl":
        return -torch.exp(-log_ratio)
    if divergence == "js":
        return logsigmoid(log_ratio)
    if divergence == "alpha":
        return -torch.expm1(-alpha * log_ratio) / alpha
    return log_ratio


def dpo(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    label_smoothing: Number = 0.0,
    offset: Number = 0.0,
    divergence: str = "reverse_kl",
    divergence_alpha: float = 0.5,
) -> Tensor:
    """Return the DPO loss of each pair, shape (pairs,).

    Rafailov et al. 2023 (arXiv:2305.18290), Eq. 7; with `label_smoothing` > 0 the conservative form (Mitchell
    2023, "A note on DPO with noisy preferences", Eq. 3); with an `offset` Amini et al. 2024 (arXiv:2402.10571),
    Eq. 8; with another divergence Wang et al. 2023 (arXiv:2309.16240), Eq. 14.

    Args:
        policy: Log-probabilities under the policy, nats.
        reference: The same under the frozen reference: same pairs, same order.
        beta: Strength of the tie to the reference, > 0.
        label_smoothing: Assumed share of flipped labels, in [0, 0.5).
        offset: How much larger the chosen response's reward should be.
        divergence: What ties the policy to the reference, see `derivative`.
        divergence_alpha: Of the alpha divergence.

    At policy == reference and without offset the loss is ln 2, and its slope in the margin
    -beta / 2 * (1 - 2 * label_smoothing).
    """
    chosen, rejected = (derivative(ratio, divergence, divergence_alpha) for ratio in log_ratios(policy, reference))
    return _logistic(beta * (chosen - rejected) - offset, label_smoothing)


def robust(
    policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: Number, offset: Number = 0.0
) -> Tensor:
    """Return DPO's loss without the bias that flipped labels give it.

    Chowdhury et al. 2024 (arXiv:2403.00409), Sec. 3.1. `label_smoothing` is the share of flipped labels, in
    [0, 0.5). The loss is not bounded from below.
    """
    scaled = beta * margin(policy, reference) - offset
    right, wrong = -logsigmoid(scaled), -logsigmoid(-scaled)
    return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)


def hinge(policy: PairLogps, reference: PairLogps, *, beta: float, offset: Number = 0.0) -> Tensor:
    """Return max(0, 1 - (reward margin - offset)): SLiC (arXiv:2305.10425) as in RSO (arXiv:2309.06657)."""
    return torch.relu(1 - (beta * margin(policy, reference) - offset))


def ipo(policy: PairLogps, reference: PairLogps, *, beta: float) -> Tensor:
    """Return (margin - 1 / (2 beta))^2: Azar et al. 2023 (arXiv:2310.12036), Eq. 17, whose tau is beta.

    With sums it is the paper's equation; its authors' later advice is the mean per token.
    """
    return (margin(policy, reference) - 1 / (2 * beta)) ** 2


def simpo(policy: PairLogps, *, beta: float, gamma: float, offset: Number = 0.0) -> Tensor:
    """Return SimPO's loss from per-token means: Meng et al. 2024 (arXiv:2405.14734), Eq. 6."""
    return -logsigmoid(beta * (policy.chosen - policy.rejected) - gamma - offset)


def orpo(policy: PairLogps, *, beta: float) -> Tensor:
    """Return ORPO's loss from per-token means: Hong et al. 2024 (arXiv:2403.07691), Sec. 4; lambda is beta."""
    odds = (policy.chosen - policy.rejected) - (_log1mexp(policy.chosen) - _log1mexp(policy.rejected))
    return -policy.chosen - beta * logsigmoid(odds)


def cpo(policy: PairLogps, *, beta: float, offset: Number = 0.0) -> Tensor:
    """Return CPO's preference term: Xu et al. 2024 (arXiv:2401.08417), Sec. 3; its likelihood is `nll_weight`."""
    return -logsigmoid(beta * (policy.chosen - policy.rejected) - offset)


def dpop(policy: PairLogps, reference: PairLogps, *, beta: float, penalty: float, offset: Number = 0.0) -> Tensor:
    """Return DPO-Positive's loss: Pal et al. 2024 (arXiv:2402.13228), Eq. 3.

    `penalty` (its lambda) weighs, inside the sigmoid, how far the chosen response fell below the reference.
    """
    fallen = torch.relu(reference.chosen - policy.chosen)
    return -logsigmoid(beta * (margin(policy, reference) - penalty * fallen) - offset)


def apo_zero(policy: PairLogps, reference: PairLogps, *, beta: float) -> Tensor:
    """Return APO-zero's loss, for data better than the model: D'Oosterlinck et al. 2024 (arXiv:2408.06266), Eq. 7.

    Plus 1, as is usual, so that it is never negative.
    """
    chosen, rejected = log_ratios(policy, reference)
    return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down(policy: PairLogps, reference: PairLogps, *, beta: float) -> Tensor:
    """Return APO-down's loss, for data worse than the model: D'Oosterlinck et al. 2024 (arXiv:2408.06266), Eq. 8.

    Plus 1, as is usual, so that it is never negative.
    """
    chosen, rejected = log_ratios(policy, reference)
    return torch.sigmoid(beta * chosen) + 1 - torch.sigmoid(beta * (chosen - rejected))


def exo(policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: Number) -> Tensor:
    """Return KL(model || label) of one pair: Ji et al. 2024 (arXiv:2402.00856), Eq. 16; label_smoothing > 0."""
    scaled = beta * margin(policy, reference)
    smoothing = torch.as_tensor(label_smoothing, dtype=scaled.dtype, device=scaled.device)
    right, wrong = logsigmoid(scaled), logsigmoid(-scaled)
    return right.exp() * (right - torch.log1p(-smoothing)) + wrong.exp() * (wrong - smoothing.log())


def nca(policy: PairLogps, reference: PairLogps, *, beta: float) -> Tensor:
    """Return the noise-contrastive loss of a pair: Chen et al. 2024 (arXiv:2402.05369), Sec. 4."""
    chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
    return -logsigmoid(chosen) - 0.5 * (logsigmoid(-chosen) + logsigmoid(-rejected))


def sppo(policy: PairLogps, reference: PairLogps, *, beta: float) -> Tensor:
    """Return SPPO's loss with certain labels: Wu et al. 2024 (arXiv:2405.00675), Eq. 4.7; its eta is 1 / beta."""
    chosen, rejected = log_ratios(policy, reference)
    return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2


def bco(policy: PairLogps, reference: PairLogps, *, beta: float, shift: Number) -> Tensor:
    """Return the binary classifier's loss of both responses: Jung et al. 2024 (arXiv:2404.04656), Sec. 4.

    `shift` (its delta) is the mean reward, taken over the step.
    """
    chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
    return -logsigmoid(chosen - shift) - logsigmoid(shift - rejected)


def aot(policy: PairLogps, *, beta: float, rival: Tensor, label_smoothing: Number = 0.0) -> Tensor:
    """Return DPO's loss between sorted margins: Melnyk et al. 2024 (arXiv:2406.05882), Sec. 3, for pairs.

    Within a step, the k-th largest log p(chosen) - log p(rejected) of the policy is compared with the reference's
    k-th largest: the one is to dominate the other as a distribution.

    Args:
        policy: Log-probabilities under the policy, nats.
        beta: Strength of the tie to the reference.
        rival: The reference's difference that each pair of the policy is compared with, a constant.
        label_smoothing: Assumed share of flipped labels.
    """
    return _logistic(beta * (policy.chosen - policy.rejected - rival), label_smoothing)


def discopop(policy: PairLogps, reference: PairLogps, *, beta: float, tau: float, offset: Number = 0.0) -> Tensor:
    """Return the log-ratio modulated loss that a search found: Lu et al. 2024 (arXiv:2406.08414), Eq. 5."""
    scaled = beta * margin(policy, reference) - offset
    share = torch.sigmoid(scaled / tau)
    return (1 - share) * -logsigmoid(scaled) + share * torch.exp(-scaled)


def kto(log_ratio: Tensor, *, beta: float, divergence: Number, desirable: Tensor, weight: Tensor) -> Tensor:
    """Return the loss of single responses: Ethayarajh et al. 2024 (arXiv:2402.01306), Eq. 8.

    Args:
        log_ratio: log(policy / reference) of each response, nats.
        beta: Strength of the tie to the reference.
        divergence: The estimate of KL(policy || reference), >= 0, a constant (its z0).
        desirable: Whether each response is desirable.
        weight: Of each response (its lambda).
    """
    sign = torch.where(desirable, 1.0, -1.0)
    return weight * (1 - torch.sigmoid(sign * beta * (log_ratio - divergence)))


def sft(policy: PairLogps) -> Tensor:
    """Return the negative log-likelihood of each chosen response, shape (pairs,)."""
    return -policy.chosen


def _logistic(scaled: Tensor, label_smoothing: Number) -> Tensor:
    """-log sigmoid, with the label wrong now and then."""
    return -(1 - label_smoothing) * logsigmoid(scaled) - label_smoothing * logsigmoid(-scaled)


def _log1mexp(value: Tensor) -> Tensor:
    """log(1 - exp(value)) for value < 0, exact at both ends (Maechler 2012)."""
    near = value > -math.log(2)
    small = torch.where(near, value, -1.0)  # neither branch may see what the other is for, or its gradient is nan
    large = torch.where(near, -1.0, value)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))
