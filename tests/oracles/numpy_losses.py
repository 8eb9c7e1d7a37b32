"""Every preference loss a second time: float64 NumPy, written from the papers, sharing no line with the package.

Conventions. A log-probability is the sum over a response's tokens, in nats. `log ratio` is policy - reference, `m`
the chosen log ratio minus the rejected one, `r` = beta * log ratio (the implicit reward), `s` the logistic
function. A loss returns one number a pair, before weights (`weighted`) and averaging. Where a loss is a function
of one logit, a pair's optional `margin` is subtracted from that logit; every other loss refuses a margin. "At the
reference" means policy == reference; a slope is the derivative by the policy's log-probability of that side.

Every function also takes complex input and branches on real parts only, so that `gradient` can differentiate by
the complex step, to machine precision and with no choice of step size. At a kink it takes the flat side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha"]

# The derivative is Im f(x + ih) / h with an error of order h^2: this h makes the error vanish in float64.
COMPLEX_STEP = 1e-30


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """One optimizer step's pairs; every array has shape (pairs,).

    Attributes:
        policy_chosen: the policy's log-probability of each chosen response, nats.
        policy_rejected: the same of each rejected response.
        reference_chosen: the reference's log-probability of each chosen response, nats.
        reference_rejected: the same of each rejected response.
        chosen_tokens: tokens of each chosen response, at least 1.
        rejected_tokens: tokens of each rejected response, at least 1.
        weight: a factor for each pair's loss; None is 1.
        margin: how far the logit must be ahead, in the logit's unit (reward); None is 0.
    """

    policy_chosen: Array
    policy_rejected: Array
    reference_chosen: Array
    reference_rejected: Array
    chosen_tokens: Array
    rejected_tokens: Array
    weight: Array | None = None
    margin: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Responses:
    """Single responses with a label each, for KTO; every array has shape (responses,).

    Attributes:
        policy: the policy's log-probability of each response, nats.
        reference: the reference's.
        desirable: True where the label says that the response is good.
        weight: a factor for each response's loss; None is 1.
    """

    policy: Array
    reference: Array
    desirable: Array
    weight: Array | None = None


Step = TypeVar("Step", Pairs, Responses)


def means(pairs: Pairs) -> Pairs:
    """The same pairs with per-token means for sums, in nats per token.

    Token counts become 1, so a second call changes nothing. `dpo(means(pairs), beta)` is length-normalised DPO
    (arXiv:2411.15124, section 4.3), `ipo(means(pairs), beta)` IPO's other published normalisation.
    """
    return dataclasses.replace(
        pairs,
        policy_chosen=pairs.policy_chosen / pairs.chosen_tokens,
        policy_rejected=pairs.policy_rejected / pairs.rejected_tokens,
        reference_chosen=pairs.reference_chosen / pairs.chosen_tokens,
        reference_rejected=pairs.reference_rejected / pairs.rejected_tokens,
        chosen_tokens=np.ones_like(pairs.chosen_tokens),
        rejected_tokens=np.ones_like(pairs.rejected_tokens),
    )


def weighted(losses: Array, step: Pairs | Responses) -> Array:
    """The losses times the step's weights, shape kept; unchanged where the step has none."""
    return losses if step.weight is None else losses * step.weight


def gradient(loss: Callable[[Step], Array], step: Step, field: str) -> Array:
    """The derivative of the *sum* of a loss by each entry of one field, by the complex step.

    Where the pairs of a step are independent this is each pair's own derivative; where they are coupled (AOT) it
    is the whole derivative. The formula is Im L(x + ih e_k) / h: Squire and Trapp, SIAM Review 40 (1998) 110.

    Args:
        loss: from a step to its losses, with the options bound.
        step: where to differentiate.
        field: the name of the field, such as "policy_chosen".

    Returns:
        The derivatives, shape of the field.
    """
    values = np.asarray(getattr(step, field), dtype=np.complex128)
    slopes = np.empty(values.shape)
    for index in range(values.size):
        moved = values.copy()
        moved[index] += 1j * COMPLEX_STEP
        slopes[index] = loss(dataclasses.replace(step, **{field: moved})).sum().imag / COMPLEX_STEP
    return slopes


# --- losses of one logit: a margin is subtracted from it ---------------------------------------------------------


def dpo(pairs: Pairs, beta: float, label_smoothing: ArrayLike = 0.0) -> Array:
    """DPO, with cDPO's label smoothing and ODPO's offset: -(1 - e) log s(z) - e log s(-z), z = beta m - margin.

    arXiv:2305.18290 eq. 7; cDPO: Mitchell, "A note on DPO with noisy preferences" (2023), eq. 3; the offset:
    arXiv:2402.10571 (ODPO), -log s(beta m - offset).

    beta is the price of a nat of log ratio (of a nat per token on `means`); e in [0, 1/2) is the probability that
    a label is wrong, one number or one a pair. With both, a wrong label turns the whole logit round, offset
    included, so that s(z) and s(-z) stay the two outcomes of one event; no paper joins the two.

    At the reference, margin 0: ln 2; slopes -+ beta (1 - 2e) / 2.
    """
    return _cross_entropy(_logit(pairs, beta), label_smoothing)


def robust(pairs: Pairs, beta: float, label_smoothing: ArrayLike) -> Array:
    """Robust DPO: ((1 - e) l(z) - e l(-z)) / (1 - 2e), l(z) = -log s(z), z = beta m - margin.

    arXiv:2403.00409 section 3.1. Unbiased: where a fraction e in [0, 1/2) of the labels is flipped, its mean is
    DPO's loss on the true ones. Not bounded from below.

    At the reference, margin 0: ln 2; slopes -+ beta / (2 (1 - 2e)).
    """
    z = _logit(pairs, beta)
    flipped = np.asarray(label_smoothing)
    return (-(1 - flipped) * log_sigmoid(z) + flipped * log_sigmoid(-z)) / (1 - 2 * flipped)


def hinge(pairs: Pairs, beta: float) -> Array:
    """SLiC's calibration loss on DPO's logit: max(0, 1 - z), z = beta m - margin.

    arXiv:2305.10425 section 2 ranks the policy's own log-probabilities, max(0, d - log p_c + log p_r), and adds an
    NLL term; arXiv:2309.06657 (RSO) normalises by the reference ("hinge-norm"), as here: d = 1 / beta, up
    to scale.

    At the reference, margin 0: 1; slopes -+ beta. At the corner z = 1 the slope is taken as 0.
    """
    return _positive_part(1 - _logit(pairs, beta))


def dpop(pairs: Pairs, beta: float, lambda_: float) -> Array:
    """DPO-Positive: -log s(beta (m - lambda max(0, reference_chosen - policy_chosen)) - margin).

    arXiv:2402.13228 eq. 3. lambda >= 0 has no unit; the penalty stands inside the bracket that beta multiplies.

    At the reference: ln 2, and a corner: the chosen slope is -beta / 2 to the right and -beta (1 + lambda) / 2 to
    the left (`gradient` gives the right one); the rejected slope is beta / 2.
    """
    penalty = _positive_part(pairs.reference_chosen - pairs.policy_chosen)
    return -log_sigmoid(_logit(pairs, beta) - beta * lambda_ * penalty)


def exo(pairs: Pairs, beta: float, label_smoothing: ArrayLike) -> Array:
    """EXO for pairs: the reverse KL(p || q), p = (s(z), s(-z)), q = (1 - e, e), z = beta m - margin.

    arXiv:2402.00856 eq. 16. e in (0, 1/2) must be positive: at e = 0 the divergence is infinite. TRL has
    taken 1e-3 where e is 0, without a word.

    At the reference: -ln 2 - ln(e (1 - e)) / 2; slopes -+ beta ln((1 - e) / e) / 4. Least, 0, at s(z) = 1 - e.
    """
    flipped = np.asarray(label_smoothing, dtype=np.float64)
    if np.any(flipped <= 0):
        raise ValueError("EXO needs label_smoothing above 0")
    z = _logit(pairs, beta)
    ahead, behind = log_sigmoid(z), log_sigmoid(-z)
    return np.exp(ahead) * (ahead - np.log1p(-flipped)) + np.exp(behind) * (behind - np.log(flipped))


def discopop(pairs: Pairs, beta: float, tau: float = 0.05) -> Array:
    """DiscoPOP (LRML): (1 - s(z / tau)) * (-log s(z)) + s(z / tau) * exp(-z), z = beta m - margin.

    arXiv:2406.08414 eq. 5; tau = 0.05 there, no unit. Logistic for a margin below 0, exponential above.

    At the reference: (ln 2 + 1) / 2; slopes +- beta ((1 - ln 2) / (4 tau) - 3/4), at tau = 0.05 that is +0.784
    beta for the chosen response: the first step *lowers* the margin. The loss is not convex: for that tau it has a
    valley at z = -0.119 and a crest at z = 0.072 (the paper's -2.3714 and 1.44012 times its beta, 0.05).
    """
    z = _logit(pairs, beta)
    exponential = sigmoid(z / tau)
    return -(1 - exponential) * log_sigmoid(z) + exponential * np.exp(-z)


def f_dpo(pairs: Pairs, beta: float, divergence: Divergence, alpha: float = 0.5) -> Array:
    """f-DPO: -log s(beta (f'(u_c) - f'(u_r)) - margin), u = policy / reference of the whole response.

    arXiv:2309.16240 table 1 and theorem 1. f' is log u + 1 (reverse_kl: DPO itself), -1/u (forward_kl),
    log(2u / (1 + u)) (js_divergence: the paper's f is twice the usual Jensen-Shannon divergence) and
    (1 - u^-alpha) / alpha (alpha in (0, 1): towards 0 it becomes reverse_kl, towards 1 forward_kl up to a constant
    that cancels). 1/u overflows for long responses that have become unlikely; TRL has capped the exponent
    there, the paper does not. alpha is used by the divergence "alpha" alone.

    At the reference: ln 2; slopes -+ beta f''(1) / 2: f''(1) is 1, and 1/2 for js_divergence.
    """
    chosen, rejected = _log_ratios(pairs)
    lead = _f_prime(chosen, divergence, alpha) - _f_prime(rejected, divergence, alpha)
    return -log_sigmoid(beta * lead - _margin(pairs))


def simpo(pairs: Pairs, beta: float, gamma: float) -> Array:
    """SimPO: -log s(beta (mean_c - mean_r) - gamma - margin), means per token of the policy; no reference.

    arXiv:2405.14734 eq. 6. gamma is in the unit of the reward (after beta); the authors' code and TRL's
    `simpo_gamma` differ in the knob only: the former's is gamma / beta.

    Not constant at the reference. Where both means are equal: -log s(-gamma), slopes in the means
    -+ beta s(gamma).
    """
    own = means(pairs)
    return -log_sigmoid(beta * (own.policy_chosen - own.policy_rejected) - gamma - _margin(pairs))


def cpo(pairs: Pairs, beta: float, nll_weight: float = 1.0) -> Array:
    """CPO: -log s(beta (policy_chosen - policy_rejected) - margin) - nll_weight * policy_chosen; no reference.

    arXiv:2401.08417 section 3 (eq. 3 is the first term), with weight 1. Both terms are of sums, as the paper
    writes them; TRL takes the NLL per token and over all tokens of a micro-batch, which weighs it far less and not
    by pairs.

    Not constant at the reference. Where both sums are equal: ln 2 + NLL; slopes -beta / 2 - nll_weight, beta / 2.
    """
    lead = beta * (pairs.policy_chosen - pairs.policy_rejected) - _margin(pairs)
    return -log_sigmoid(lead) - nll_weight * pairs.policy_chosen


# --- losses of both log ratios, or of a fixed target: no margin --------------------------------------------------


def ipo(pairs: Pairs, beta: float) -> Array:
    """IPO: (m - 1 / (2 beta))^2.

    arXiv:2310.12036 eq. 17, beta is its tau. The paper writes sequence probabilities, hence sums; the DPO authors'
    code and OpenRLHF take sums, TRL and LLaMA-Factory per-token means (`means`): same formula, beta in
    another unit.

    At the reference: 1 / (4 beta^2); slopes -+ 1 / beta. Least, 0, at m = 1 / (2 beta).
    """
    _refuse_margin(pairs)
    chosen, rejected = _log_ratios(pairs)
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def orpo(pairs: Pairs, lambda_: float) -> Array:
    """ORPO: -mean_c + lambda * (-log s(log odds(mean_c) - log odds(mean_r))), log odds(x) = x - log(1 - e^x).

    arXiv:2403.07691 section 4; means per token of the policy, no reference; lambda >= 0 (TRL names it beta). The
    paper's SFT term is the usual mean over the response; TRL's runs over prompt and response and over all tokens
    of a micro-batch, not by pairs.

    Not constant at the reference. Where both means are x: -x + lambda ln 2; slopes in the means
    -1 - lambda / (2 (1 - e^x)) and lambda / (2 (1 - e^x)).
    """
    _refuse_margin(pairs)
    own = means(pairs)
    log_odds_ratio = _log_odds(own.policy_chosen) - _log_odds(own.policy_rejected)
    return -own.policy_chosen - lambda_ * log_sigmoid(log_odds_ratio)


def apo_zero(pairs: Pairs, beta: float) -> Array:
    """APO-zero: -s(r_c) + s(r_r), in (-1, 1): lifts the chosen response, lowers the rejected one.

    arXiv:2408.06266 eq. 7. TRL, written by the paper's authors, adds 1 (1 - s(r_c)): same gradient, and a loss
    that is 1 at the reference and never negative.

    At the reference: 0; slopes -beta / 4 and beta / 4. Not a function of the margin alone.
    """
    _refuse_margin(pairs)
    chosen, rejected = _log_ratios(pairs)
    return -sigmoid(beta * chosen) + sigmoid(beta * rejected)


def apo_down(pairs: Pairs, beta: float) -> Array:
    """APO-down: s(r_c) - s(r_c - r_r), in (-1, 1): lowers both, the rejected response more.

    arXiv:2408.06266 eq. 8. TRL adds 1, as in `apo_zero`.

    At the reference: 0; chosen slope exactly 0 (beta/4 - beta/4), rejected slope beta / 4.
    """
    _refuse_margin(pairs)
    chosen, rejected = _log_ratios(pairs)
    return sigmoid(beta * chosen) - sigmoid(beta * (chosen - rejected))


def nca(pairs: Pairs, beta: float) -> Array:
    """NCA for pairs: -log s(r_c) - (log s(-r_c) + log s(-r_r)) / 2.

    arXiv:2402.05369 section 4 for two responses, the reward's temperature towards 0: the chosen response counts
    once as data, both count half as noise.

    At the reference: 2 ln 2; slopes -beta / 4 and beta / 4. Not a function of the margin alone.
    """
    _refuse_margin(pairs)
    chosen, rejected = _log_ratios(pairs)
    noise = log_sigmoid(-beta * chosen) + log_sigmoid(-beta * rejected)
    return -log_sigmoid(beta * chosen) - noise / 2


def sppo(pairs: Pairs, beta: float) -> Array:
    """SPPO with hard labels: (log ratio_c - 1 / (2 beta))^2 + (log ratio_r + 1 / (2 beta))^2.

    arXiv:2405.00675 eq. 4.7, 1 / beta is the paper's step eta and the win rate is 1 (chosen) or 0 (rejected). The
    authors' code halves the sum; TRL does not. A form in r = beta * log ratio with targets +- 1/2 also circulates:
    it is this one times beta^2.

    At the reference: 1 / (2 beta^2); slopes -1 / beta and 1 / beta. Least, 0, at log ratios +- 1 / (2 beta).
    """
    _refuse_margin(pairs)
    chosen, rejected = _log_ratios(pairs)
    return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2


def bco(pairs: Pairs, beta: float, delta: float) -> Array:
    """BCO for pairs: -log s(r_c - delta) - log s(-(r_r - delta)); delta is a constant to the derivative.

    arXiv:2404.04656 section 4: the reward shift delta is the mean reward of both classes, kept as a running mean
    (`bco_delta` is one step's share). Implementations update delta with the step's rewards before they use it, and
    weigh the mean by counts, which for pairs is the same. For delta = 0 it is an upper bound of DPO (theorem 1).

    At the reference, delta 0: 2 ln 2; slopes -beta / 2 and beta / 2.
    """
    _refuse_margin(pairs)
    chosen, rejected = _log_ratios(pairs)
    return -log_sigmoid(beta * chosen - delta) - log_sigmoid(-(beta * rejected - delta))


def bco_delta(pairs: Pairs, beta: float) -> float:
    """The reward shift of one step, (mean r_c + mean r_r) / 2, in the unit of the reward (arXiv:2404.04656)."""
    chosen, rejected = _log_ratios(pairs)
    return float(beta * (chosen.mean() + rejected.mean()) / 2)


def aot(pairs: Pairs, beta: float, label_smoothing: ArrayLike = 0.0) -> Array:
    """AOT for pairs: DPO's loss of beta (u_(i) - v_(i)), both sorted within the step.

    arXiv:2406.05882 section 3: u = policy_chosen - policy_rejected, v = reference_chosen - reference_rejected, and
    u_(i), v_(i) are the i-th smallest of the step: u is to dominate v as a distribution. e as in `dpo`. A pair's
    entry here is the loss in which its u stands; label smoothing follows u. The paper sorts a micro-batch, and so
    do the implementations; here the whole step is sorted, which makes the loss independent of the split. The
    unpaired kind sorts chosen against rejected log ratios; TRL has called that one `aot_pair`.

    At the reference: ln 2; slopes -+ beta (1 - 2e) / 2.
    """
    _refuse_margin(pairs)
    own = pairs.policy_chosen - pairs.policy_rejected
    theirs = pairs.reference_chosen - pairs.reference_rejected
    rank = np.argsort(np.argsort(np.real(own), kind="stable"), kind="stable")
    matched = theirs[np.argsort(np.real(theirs), kind="stable")][rank]
    return _cross_entropy(beta * (own - matched), label_smoothing)


# --- single responses ----------------------------------------------------------------------------------------


def kto(
    responses: Responses,
    beta: float,
    kl: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Array:
    """KTO: lambda_D (1 - s(beta (log ratio - kl))) where desirable, else lambda_U (1 - s(beta (kl - log ratio))).

    arXiv:2402.01306 eq. 7 and 8. kl is the reference point z_0 in nats (not times beta), a constant to the
    derivative; the paper estimates it from mismatched prompts and responses of the step (`kto_kl`). Shape
    (responses,), each in [0, its weight].

    At the reference, kl 0: half the weight; slopes -lambda_D beta / 4 where desirable, lambda_U beta / 4
    elsewhere.
    """
    lead = beta * (responses.policy - responses.reference - kl)
    desirable = desirable_weight * (1 - sigmoid(lead))
    undesirable = undesirable_weight * (1 - sigmoid(-lead))
    return np.where(responses.desirable, desirable, undesirable)


def kto_kl(policy: Array, reference: Array) -> float:
    """KTO's reference point z_0, nats: max(0, mean of policy - reference) over mismatched responses of a step.

    arXiv:2402.01306 section 4.1: a response is scored under another row's prompt. Both arrays have shape
    (responses,).
    """
    return max(0.0, float(np.mean(policy - reference)))


# --- terms and weights that go with other losses -------------------------------------------------------------


def nll(pairs: Pairs, weight: float) -> Array:
    """The NLL term of iterative RPO: -weight * policy_chosen / chosen_tokens, to be added to DPO's loss.

    arXiv:2404.19733 (v3) eq. 1, weight is alpha. In v1 alpha multiplied the DPO term instead, and TRL did the same
    until 2024-08. TRL and others average over all tokens of a micro-batch; the paper, as here, within each
    response.

    Slope: -weight / chosen_tokens.
    """
    return -weight * pairs.policy_chosen / pairs.chosen_tokens


def wpo_weights(token_logps: Sequence[ArrayLike], log_square_sums: Sequence[ArrayLike]) -> Array:
    """WPO's weight of each response: exp of the mean over its tokens of log(p(token) / sum_v p(v)^2).

    arXiv:2406.11827 eq. 2 with "sampled alignment": the policy's probability of each token against what a token
    drawn from the policy has on average. A pair's loss is multiplied by the product of its two responses' weights;
    both are constants to the derivative. May exceed 1; the authors and open-instruct cut the *product* at 1,
    which eq. 2 does not.

    Args:
        token_logps: one array for each response, shape (tokens,): the policy's log p of the tokens, nats.
        log_square_sums: arrays of the same shapes: log of the sum over the vocabulary of p squared.

    Returns:
        The weights, shape (responses,), positive.
    """
    responses = zip(token_logps, log_square_sums, strict=True)
    return np.array([np.exp(np.mean(np.asarray(logps) - np.asarray(sums))) for logps, sums in responses])


def ld_sum(token_logps: ArrayLike, shorter_length: int, alpha: float) -> Any:
    """LD-DPO's log-probability of a response: the sum up to the shorter length, alpha times the sum past it.

    arXiv:2409.06411 section 3: shorter_length is the number of tokens of the pair's shorter response, alpha in
    [0, 1]; alpha 1 is the plain sum. It replaces the sums of policy and of reference alike, so that the log ratio
    is 0 at the reference; implementations that change the policy's alone do not start from ln 2.

    Args:
        token_logps: log p of one response's tokens, shape (tokens,), nats.
        shorter_length: tokens that count in full.
        alpha: the factor of those after.

    Returns:
        A number, nats.
    """
    logps = np.asarray(token_logps)
    return logps[:shorter_length].sum() + alpha * logps[shorter_length:].sum()


# --- arithmetic ----------------------------------------------------------------------------------------------


def log_sigmoid(z: Array) -> Array:
    """log(1 / (1 + e^-z)) without overflow, real or complex (branching on the real part); shape kept."""
    upper = np.real(z) > 0
    return np.where(upper, 0, z) - np.log1p(np.exp(np.where(upper, -z, z)))


def sigmoid(z: Array) -> Array:
    """The logistic function 1 / (1 + e^-z) without overflow, real or complex; shape kept."""
    return np.exp(log_sigmoid(z))


def _positive_part(x: Array) -> Array:
    return np.where(np.real(x) > 0, x, 0)


def _log_odds(logp: Array) -> Array:
    return logp - np.log(-np.expm1(logp))


def _cross_entropy(z: Array, label_smoothing: ArrayLike) -> Array:
    flipped = np.asarray(label_smoothing)
    return -(1 - flipped) * log_sigmoid(z) - flipped * log_sigmoid(-z)


def _log_ratios(pairs: Pairs) -> tuple[Array, Array]:
    return pairs.policy_chosen - pairs.reference_chosen, pairs.policy_rejected - pairs.reference_rejected


def _margin(pairs: Pairs) -> Array | float:
    return 0.0 if pairs.margin is None else pairs.margin


def _logit(pairs: Pairs, beta: float) -> Array:
    chosen, rejected = _log_ratios(pairs)
    return beta * (chosen - rejected) - _margin(pairs)


def _refuse_margin(pairs: Pairs) -> None:
    if pairs.margin is not None:
        raise ValueError("this loss has no logit from which a margin could be subtracted")


def _f_prime(log_ratio: Array, divergence: Divergence, alpha: float) -> Array:
    if divergence == "reverse_kl":
        return log_ratio + 1
    if divergence == "forward_kl":
        return -np.exp(-log_ratio)
    if divergence == "js_divergence":
        return np.log(2) + log_sigmoid(log_ratio)
    if divergence == "alpha":
        return (1 - np.exp(-alpha * log_ratio)) / alpha
    raise ValueError(f"no divergence is called {divergence!r}")
