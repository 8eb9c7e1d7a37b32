"""The NumPy twin against the papers: numbers computed by hand, slopes, limits, identities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import e, exp, log, log1p, sqrt

import numpy as np
import pytest
from tests.oracles import numpy_losses as twin
from tests.oracles.numpy_losses import Array, Pairs, Responses

Loss = Callable[[Pairs], Array]

LN2, LN3, LN4 = log(2), log(3), log(4)
BETA, EPSILON = 0.3, 0.2
POLICY = ("policy_chosen", "policy_rejected")
REFERENCE = ("reference_chosen", "reference_rejected")

# Every loss of pairs that compares with a reference, its options bound.
REFERENCED: dict[str, Loss] = {
    "dpo": partial(twin.dpo, beta=BETA),
    "cdpo": partial(twin.dpo, beta=BETA, label_smoothing=EPSILON),
    "robust": partial(twin.robust, beta=BETA, label_smoothing=EPSILON),
    "hinge": partial(twin.hinge, beta=BETA),
    "ipo": partial(twin.ipo, beta=BETA),
    "dpop": partial(twin.dpop, beta=BETA, lambda_=2.0),
    "apo_zero": partial(twin.apo_zero, beta=BETA),
    "apo_down": partial(twin.apo_down, beta=BETA),
    "exo": partial(twin.exo, beta=BETA, label_smoothing=EPSILON),
    "nca": partial(twin.nca, beta=BETA),
    "sppo": partial(twin.sppo, beta=BETA),
    "bco": partial(twin.bco, beta=BETA, delta=0.0),
    "aot": partial(twin.aot, beta=BETA, label_smoothing=EPSILON),
    "discopop": partial(twin.discopop, beta=BETA, tau=0.05),
    "reverse_kl": partial(twin.f_dpo, beta=BETA, divergence="reverse_kl"),
    "forward_kl": partial(twin.f_dpo, beta=BETA, divergence="forward_kl"),
    "js_divergence": partial(twin.f_dpo, beta=BETA, divergence="js_divergence"),
    "alpha": partial(twin.f_dpo, beta=BETA, divergence="alpha", alpha=0.3),
}
REFERENCE_FREE: dict[str, Loss] = {
    "simpo": partial(twin.simpo, beta=2.0, gamma=0.5),
    "orpo": partial(twin.orpo, lambda_=0.7),
    "cpo": partial(twin.cpo, beta=BETA, nll_weight=0.4),
    "nll": partial(twin.nll, weight=0.6),
}
ALL = REFERENCED | REFERENCE_FREE
MARGIN_ONLY = ("dpo", "cdpo", "robust", "hinge", "ipo", "exo", "aot", "discopop", "reverse_kl")
WITHOUT_LOGIT = ("ipo", "apo_zero", "apo_down", "nca", "sppo", "bco", "aot", "orpo")
WITH_LOGIT = (
    "dpo", "cdpo", "robust", "hinge", "dpop", "exo", "discopop",
    "reverse_kl", "forward_kl", "alpha", "simpo", "cpo",
)  # fmt: skip


def pair(chosen: float, rejected: float, **changes: Array) -> Pairs:
    """One pair with these log ratios, on references of -10 and -20 over 5 and 8 tokens."""
    one = Pairs(
        policy_chosen=np.array([-10.0 + chosen]),
        policy_rejected=np.array([-20.0 + rejected]),
        reference_chosen=np.array([-10.0]),
        reference_rejected=np.array([-20.0]),
        chosen_tokens=np.array([5.0]),
        rejected_tokens=np.array([8.0]),
    )
    return dataclasses.replace(one, **changes)


def step(pairs: int = 7, seed: int = 0) -> Pairs:
    """Pairs at random, away from every corner of the losses (the gradient checks need that)."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 12, size=(2, pairs)).astype(np.float64)
    reference = -lengths * draw.uniform(1.0, 2.0, size=(2, pairs))
    policy = reference + draw.normal(0.0, 1.5, size=(2, pairs))
    return Pairs(policy[0], policy[1], reference[0], reference[1], lengths[0], lengths[1])


def moved(pairs: Pairs, fields: tuple[str, ...], by: Array | float) -> Pairs:
    """The pairs with a number added to each of these fields."""
    return dataclasses.replace(pairs, **{field: getattr(pairs, field) + by for field in fields})


def extrapolated_difference(loss: Loss, pairs: Pairs, field: str) -> Array:
    """The gradient of the summed loss by central differences of steps 2h and h, extrapolated: error O(h^4)."""
    slopes = []
    for index in range(len(pairs.policy_chosen)):
        unit = np.zeros(len(pairs.policy_chosen))
        unit[index] = 1.0

        def central(h: float, unit: Array = unit) -> float:
            ahead, behind = loss(moved(pairs, (field,), h * unit)), loss(moved(pairs, (field,), -h * unit))
            return float(np.sum(ahead - behind)) / (2 * h)

        slopes.append((4 * central(1e-3) - central(2e-3)) / 3)
    return np.array(slopes)


# --- at the reference -----------------------------------------------------------------------------------------

# Name: value, slope by the chosen log-probability, slope by the rejected one, all where policy == reference.
AT_REFERENCE = {
    "dpo": (LN2, -BETA / 2, BETA / 2),
    "cdpo": (LN2, -BETA * 0.6 / 2, BETA * 0.6 / 2),
    "robust": (LN2, -BETA / (2 * 0.6), BETA / (2 * 0.6)),
    "hinge": (1.0, -BETA, BETA),
    "ipo": (1 / (4 * BETA**2), -1 / BETA, 1 / BETA),
    "dpop": (LN2, -BETA / 2, BETA / 2),
    "apo_zero": (0.0, -BETA / 4, BETA / 4),
    "apo_down": (0.0, 0.0, BETA / 4),
    "exo": (-LN2 - log(0.2 * 0.8) / 2, -BETA * LN4 / 4, BETA * LN4 / 4),
    "nca": (2 * LN2, -BETA / 4, BETA / 4),
    "sppo": (1 / (2 * BETA**2), -1 / BETA, 1 / BETA),
    "bco": (2 * LN2, -BETA / 2, BETA / 2),
    "aot": (LN2, -BETA * 0.6 / 2, BETA * 0.6 / 2),
    "discopop": ((LN2 + 1) / 2, BETA * (5 * (1 - LN2) - 0.75), -BETA * (5 * (1 - LN2) - 0.75)),
    "reverse_kl": (LN2, -BETA / 2, BETA / 2),
    "forward_kl": (LN2, -BETA / 2, BETA / 2),
    "js_divergence": (LN2, -BETA / 4, BETA / 4),
    "alpha": (LN2, -BETA / 2, BETA / 2),
}


def test_every_loss_with_a_reference_has_a_row_in_the_table() -> None:
    assert AT_REFERENCE.keys() == REFERENCED.keys()


@pytest.mark.parametrize("name", AT_REFERENCE)
def test_the_value_and_the_slopes_at_the_reference_are_the_closed_forms(name: str) -> None:
    start = step()
    start = dataclasses.replace(
        start, policy_chosen=start.reference_chosen, policy_rejected=start.reference_rejected
    )
    value, *slopes = AT_REFERENCE[name]
    np.testing.assert_allclose(REFERENCED[name](start), value, rtol=1e-14, atol=1e-15)
    for field, slope in zip(POLICY, slopes, strict=True):
        np.testing.assert_allclose(twin.gradient(REFERENCED[name], start, field), slope, rtol=1e-13, atol=1e-15)


def test_dpop_has_a_corner_at_the_reference_and_is_steeper_below_it() -> None:
    below = twin.gradient(REFERENCED["dpop"], pair(-1e-9, 0.0), "policy_chosen")
    np.testing.assert_allclose(below, -BETA * (1 + 2.0) / 2, rtol=1e-8)


def test_kto_starts_at_half_the_weight_of_each_class_and_with_a_quarter_of_beta_as_slope() -> None:
    start = Responses(np.array([-3.0, -4.0]), np.array([-3.0, -4.0]), np.array([True, False]))
    loss = partial(twin.kto, beta=BETA, kl=0.0, desirable_weight=1.5, undesirable_weight=0.8)
    np.testing.assert_allclose(loss(start), [0.75, 0.4])
    np.testing.assert_allclose(twin.gradient(loss, start, "policy"), [-1.5 * BETA / 4, 0.8 * BETA / 4])


# --- numbers computed by hand ----------------------------------------------------------------------------------

# With beta 1, a log ratio of ln 3 has s = 3/4, of -ln 3 has s = 1/4; ln 9 has s = 9/10.
BY_HAND: list[tuple[str, Array, float]] = [
    ("dpo", twin.dpo(pair(LN3, 0.0), 1.0), log(4 / 3)),
    ("dpo, beta", twin.dpo(pair(1.5, -0.5), LN3 / 2), log(4 / 3)),
    ("dpo, smoothed", twin.dpo(pair(LN3, 0.0), 1.0, 0.2), 0.8 * log(4 / 3) + 0.2 * LN4),
    ("dpo, offset", twin.dpo(pair(0.0, 0.0, margin=np.array([LN3])), 2.0), LN4),
    ("dpo on means", twin.dpo(twin.means(pair(5 * LN3, -8 * LN3)), 0.5), log(4 / 3)),
    ("robust", twin.robust(pair(LN3, 0.0), 1.0, 0.2), (0.8 * log(4 / 3) - 0.2 * LN4) / 0.6),
    ("hinge", twin.hinge(pair(0.5, -1.0), 0.5), 0.25),
    ("hinge, satisfied", twin.hinge(pair(2.5, 0.0), 0.5), 0.0),
    ("hinge, offset", twin.hinge(pair(0.5, -1.0, margin=np.array([0.5])), 0.5), 0.75),
    ("ipo", twin.ipo(pair(0.0, -0.25), 0.5), 0.5625),
    ("ipo on means", twin.ipo(twin.means(pair(5.0, 4.0)), 0.5), 0.25),
    ("simpo", twin.simpo(pair(0.0, 0.0), 2.0, 0.5), log1p(exp(-0.5))),
    ("orpo", twin.orpo(pair(10 - 5 * LN2, 20 - 8 * LN4), 0.7), LN2 + 0.7 * log(4 / 3)),
    ("cpo", twin.cpo(pair(8.0, 18.0 - LN3), 1.0), log(4 / 3) + 2.0),
    ("cpo, weight", twin.cpo(pair(8.0, 18.0 - LN3), 1.0, 0.3), log(4 / 3) + 0.6),
    ("dpop", twin.dpop(pair(-1.0, -3.0), LN3, 1.0), log(4 / 3)),
    ("dpop, chosen above", twin.dpop(pair(1.0, 0.0), LN3, 7.0), log(4 / 3)),
    ("apo_zero", twin.apo_zero(pair(LN3, -LN3), 1.0), -0.5),
    ("apo_down", twin.apo_down(pair(LN3, -LN3), 1.0), -0.15),
    ("exo", twin.exo(pair(LN3, 0.0), 1.0, 0.2), 0.75 * log(0.9375) + 0.25 * log(1.25)),
    ("nca", twin.nca(pair(LN3, -LN3), 1.0), 1.5 * log(4 / 3) + LN4 / 2),
    ("sppo", twin.sppo(pair(0.5, 0.25), 0.5), 1.8125),
    ("bco", twin.bco(pair(LN3, -LN3), 1.0, 0.0), 2 * log(4 / 3)),
    ("bco, shifted", twin.bco(pair(2 * LN3, 2 * LN3), 1.0, LN3), log(4 / 3) + LN4),
    ("discopop", twin.discopop(pair(LN3, 0.0), 1.0, 1.0), 0.25 * log(4 / 3) + 0.75 / 3),
    ("discopop, below", twin.discopop(pair(0.0, LN3), 1.0, 0.5), 0.9 * LN4 + 0.1 * 3),
    ("reverse_kl", twin.f_dpo(pair(LN2, -LN2), 1.0, "reverse_kl"), log(1.25)),
    ("forward_kl", twin.f_dpo(pair(LN2, -LN2), 1.0, "forward_kl"), log1p(exp(-1.5))),
    ("js_divergence", twin.f_dpo(pair(LN2, -LN2), 1.0, "js_divergence"), log(1.5)),
    ("alpha", twin.f_dpo(pair(LN2, -LN2), 1.0, "alpha"), log1p(exp(-sqrt(2)))),
    ("nll", twin.nll(pair(0.0, 0.0), 0.5), 1.0),
]


@pytest.mark.parametrize(("name", "found", "expected"), BY_HAND, ids=[row[0] for row in BY_HAND])
def test_a_loss_is_the_number_computed_by_hand(name: str, found: Array, expected: float) -> None:
    assert found.shape == (1,), name
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_aot_compares_the_sorted_policy_margins_with_the_sorted_reference_margins() -> None:
    zeros = np.zeros(3)
    pairs = Pairs(np.array([5.0, 0.0, 2.0]), zeros, np.array([1.0, 2.0, 0.0]), zeros, zeros + 1, zeros + 1)
    # Sorted: 0, 2, 5 against 0, 1, 2. The gaps 0, 1, 3 go to the policy margins 0, 2, 5, which stand at 1, 2, 0.
    expected = [log1p(exp(-3.0)), LN2, log1p(exp(-1.0))]
    np.testing.assert_allclose(twin.aot(pairs, 1.0), expected)
    np.testing.assert_allclose(twin.gradient(partial(twin.aot, beta=1.0), pairs, "policy_chosen")[1], -0.5)


def test_kto_by_hand_with_a_reference_point() -> None:
    responses = Responses(np.array([-3.0, -4.0]), np.array([-3 - 2 * LN3, -4 + LN3]), np.array([True, False]))
    found = twin.kto(responses, 1.0, LN3, desirable_weight=2.0, undesirable_weight=3.0)
    np.testing.assert_allclose(found, [2 * 0.25, 3 * 0.1])


def test_ktos_reference_point_is_a_mean_that_is_never_negative() -> None:
    assert twin.kto_kl(np.array([-1.0, -2.0]), np.array([-2.0, -4.0])) == 1.5
    assert twin.kto_kl(np.array([-2.0, -4.0]), np.array([-1.0, -2.0])) == 0.0


def test_bcos_shift_is_the_mean_reward_of_both_classes() -> None:
    pairs = moved(step(), ("policy_chosen",), 1.0)
    rewards = [
        *(pairs.policy_chosen - pairs.reference_chosen),
        *(pairs.policy_rejected - pairs.reference_rejected),
    ]
    assert twin.bco_delta(pairs, 0.5) == pytest.approx(0.5 * sum(rewards) / 14)


def test_a_wpo_weight_is_the_geometric_mean_of_the_probabilities_over_their_expectation() -> None:
    found = twin.wpo_weights([np.log([0.5, 0.125]), np.log([0.9])], [np.log([0.25, 0.5]), np.log([0.82])])
    np.testing.assert_allclose(found, [sqrt(2 * 0.25), 0.9 / 0.82])


def test_a_wpo_weight_is_one_where_the_policy_is_uniform_or_certain() -> None:
    uniform, certain = np.full(4, -log(7)), np.zeros(3)
    np.testing.assert_allclose(twin.wpo_weights([uniform, certain], [uniform, certain]), 1.0)


def test_ld_sum_discounts_what_lies_past_the_shorter_length() -> None:
    logps = np.array([-1.0, -2.0, -3.0, -4.0])
    assert twin.ld_sum(logps, 2, 0.5) == -6.5
    assert twin.ld_sum(logps, 2, 1.0) == -10.0
    assert twin.ld_sum(logps, 2, 0.0) == -3.0
    assert twin.ld_sum(logps, 4, 0.0) == -10.0


def test_weights_multiply_each_pairs_loss() -> None:
    pairs = dataclasses.replace(step(2), weight=np.array([0.5, 3.0]))
    losses = np.array([2.0, 4.0])
    np.testing.assert_array_equal(twin.weighted(losses, pairs), [1.0, 12.0])
    assert twin.weighted(losses, step(2)) is losses


# --- gradients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [*POLICY, *REFERENCE])
@pytest.mark.parametrize("name", ALL)
def test_the_complex_step_agrees_with_extrapolated_differences(name: str, field: str) -> None:
    pairs = step()
    expected = extrapolated_difference(ALL[name], pairs, field)
    np.testing.assert_allclose(twin.gradient(ALL[name], pairs, field), expected, rtol=1e-6, atol=1e-8)


def test_the_complex_step_gives_an_exact_derivative() -> None:
    pairs = step()
    margin = (pairs.policy_chosen - pairs.reference_chosen) - (pairs.policy_rejected - pairs.reference_rejected)
    expected = -BETA / (1 + np.exp(BETA * margin))
    np.testing.assert_allclose(twin.gradient(REFERENCED["dpo"], pairs, "policy_chosen"), expected, rtol=1e-14)


def test_the_gradient_of_a_coupled_loss_counts_every_pair_that_an_entry_moves() -> None:
    def coupled(pairs: Pairs) -> Array:
        return pairs.policy_chosen * pairs.policy_chosen[::-1]

    pairs = dataclasses.replace(step(2), policy_chosen=np.array([2.0, 5.0]))
    np.testing.assert_allclose(twin.gradient(coupled, pairs, "policy_chosen"), [10.0, 4.0])


def test_no_loss_depends_on_the_reference_where_it_needs_none() -> None:
    for name, loss in REFERENCE_FREE.items():
        np.testing.assert_array_equal(twin.gradient(loss, step(), "reference_chosen"), 0.0, err_msg=name)


# --- invariances -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCED)
def test_a_constant_on_both_policy_and_reference_changes_nothing(name: str) -> None:
    pairs = step()
    shifted = moved(moved(pairs, ("policy_chosen", "reference_chosen"), -3.0), ("policy_rejected",), 2.0)
    shifted = moved(shifted, ("reference_rejected",), 2.0)
    loss = REFERENCED[name]
    if name == "aot":  # it compares margins across pairs, whose ranks such a shift keeps as well
        assert np.array_equal(np.argsort(loss(shifted)), np.argsort(loss(pairs)))
    np.testing.assert_allclose(loss(shifted), loss(pairs), rtol=1e-12)


@pytest.mark.parametrize("name", REFERENCED)
def test_only_some_losses_depend_on_the_margin_alone(name: str) -> None:
    pairs = step()
    before, after = REFERENCED[name](pairs), REFERENCED[name](moved(pairs, POLICY, -1.0))
    if name in MARGIN_ONLY:
        np.testing.assert_allclose(after, before, rtol=1e-12)
    else:
        assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("name", WITHOUT_LOGIT)
def test_a_loss_without_a_logit_refuses_a_margin(name: str) -> None:
    with pytest.raises(ValueError, match="no logit"):
        ALL[name](dataclasses.replace(step(), margin=np.ones(7)))


@pytest.mark.parametrize("name", WITH_LOGIT)
def test_a_margin_demands_that_much_more_lead(name: str) -> None:
    demand = np.linspace(0.1, 0.7, 7)
    pairs = step(seed=4)
    with_margin = ALL[name](dataclasses.replace(pairs, margin=demand))
    if name in {"dpop", "forward_kl", "alpha", "simpo"}:  # no shift of the log-probabilities equals a margin
        assert np.all(with_margin > ALL[name](pairs))
    else:
        shifted = moved(pairs, ("policy_rejected",), demand / BETA)
        np.testing.assert_allclose(with_margin, ALL[name](shifted), rtol=1e-12)


def test_means_divide_by_the_tokens_once() -> None:
    pairs = step()
    once = twin.means(pairs)
    np.testing.assert_array_equal(once.reference_rejected, pairs.reference_rejected / pairs.rejected_tokens)
    np.testing.assert_array_equal(once.policy_chosen, pairs.policy_chosen / pairs.chosen_tokens)
    for field in (*POLICY, *REFERENCE):
        np.testing.assert_array_equal(getattr(twin.means(once), field), getattr(once, field))


def test_simpo_and_orpo_see_only_the_means() -> None:
    pairs = step()
    for name in ("simpo", "orpo", "nll"):
        np.testing.assert_allclose(ALL[name](twin.means(pairs)), ALL[name](pairs), err_msg=name)


def test_label_smoothing_may_differ_from_pair_to_pair() -> None:
    doubts = np.linspace(0.05, 0.45, 7)
    pairs = step()
    for loss in (twin.dpo, twin.robust, twin.exo):
        singly = [loss(pairs, BETA, doubt)[index] for index, doubt in enumerate(doubts)]
        np.testing.assert_array_equal(loss(pairs, BETA, doubts), singly)


# --- what the papers prove or state ------------------------------------------------------------------------------


def swapped(pairs: Pairs) -> Pairs:
    """The pairs with every label turned round."""
    return Pairs(
        pairs.policy_rejected,
        pairs.policy_chosen,
        pairs.reference_rejected,
        pairs.reference_chosen,
        pairs.rejected_tokens,
        pairs.chosen_tokens,
    )


def test_robust_dpo_is_unbiased_under_flipped_labels() -> None:
    pairs = step()
    loss = REFERENCED["robust"]
    expected = (1 - EPSILON) * loss(pairs) + EPSILON * loss(swapped(pairs))
    np.testing.assert_allclose(expected, twin.dpo(pairs, BETA), rtol=1e-13)


def test_cdpo_is_dpos_mean_over_flipped_labels() -> None:
    pairs = step()
    expected = (1 - EPSILON) * twin.dpo(pairs, BETA) + EPSILON * twin.dpo(swapped(pairs), BETA)
    np.testing.assert_allclose(REFERENCED["cdpo"](pairs), expected, rtol=1e-13)


def test_without_smoothing_cdpo_and_robust_are_dpo() -> None:
    pairs = step()
    np.testing.assert_array_equal(twin.robust(pairs, BETA, 0.0), twin.dpo(pairs, BETA))


def test_exo_is_least_where_the_policy_has_the_smoothed_labels() -> None:
    lead = log((1 - EPSILON) / EPSILON) / BETA
    np.testing.assert_allclose(REFERENCED["exo"](pair(lead, 0.0)), 0.0, atol=1e-15)
    assert np.all(REFERENCED["exo"](step()) > 0)


@pytest.mark.parametrize("doubt", [0.0, -0.1])
def test_exo_refuses_certain_labels(doubt: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        twin.exo(step(), BETA, doubt)


def test_ipo_and_sppo_are_least_at_their_targets() -> None:
    assert twin.ipo(pair(0.0, -1 / (2 * BETA)), BETA) == pytest.approx(0.0, abs=1e-25)
    assert twin.sppo(pair(1 / (2 * BETA), -1 / (2 * BETA)), BETA) == pytest.approx(0.0, abs=1e-25)


def test_bco_without_a_shift_is_an_upper_bound_of_dpo() -> None:
    pairs = step(64)
    gap = twin.bco(pairs, 2.0, 0.0) - twin.dpo(pairs, 2.0)
    assert np.all(gap > 0)


def test_nca_punishes_a_falling_chosen_response_at_a_kept_margin() -> None:
    higher, lower = pair(0.0, -2.0), pair(-5.0, -7.0)
    assert np.all(twin.nca(lower, 1.0) > twin.nca(higher, 1.0) + 1)


def test_dpop_is_dpo_where_the_chosen_response_has_not_fallen_and_more_elsewhere() -> None:
    pairs = step(32)
    fell = pairs.policy_chosen < pairs.reference_chosen
    gap = REFERENCED["dpop"](pairs) - twin.dpo(pairs, BETA)
    assert fell.any()
    assert np.all(gap[fell] > 0)
    np.testing.assert_array_equal(gap[~fell], 0.0)


def test_reverse_kl_is_dpo_and_alpha_runs_from_it_to_forward_kl() -> None:
    pairs = step()
    np.testing.assert_allclose(REFERENCED["reverse_kl"](pairs), twin.dpo(pairs, BETA), rtol=1e-13)
    small, one = (twin.f_dpo(pairs, BETA, "alpha", alpha) for alpha in (1e-7, 1.0))
    np.testing.assert_allclose(small, REFERENCED["reverse_kl"](pairs), rtol=1e-5)
    np.testing.assert_allclose(one, REFERENCED["forward_kl"](pairs), rtol=1e-12)


def test_an_unknown_divergence_is_refused() -> None:
    with pytest.raises(ValueError, match="hellinger"):
        twin.f_dpo(step(), BETA, "hellinger")  # pyright: ignore[reportArgumentType]


def test_apo_down_lowers_a_chosen_response_that_is_far_ahead_and_apo_zero_never_does() -> None:
    ahead = pair(0.0, -20.0)
    assert twin.gradient(REFERENCED["apo_down"], ahead, "policy_chosen") > 0.05
    for name in ("apo_zero", "apo_down"):
        assert np.all(twin.gradient(REFERENCED[name], step(), "policy_rejected") > 0)
    assert np.all(twin.gradient(REFERENCED["apo_zero"], step(), "policy_chosen") < 0)


def test_discopop_has_the_papers_valley_below_the_reference_and_its_crest_above() -> None:
    valley, crest = -2.3714 * 0.05, 1.44012 * 0.05  # arXiv:2406.08414 gives them for beta = tau = 0.05, in nats
    loss = partial(twin.discopop, beta=1.0, tau=0.05)
    values = [float(loss(pair(lead, 0.0))[0]) for lead in (-3.0, valley, 0.0, crest, 3.0)]
    assert [later > earlier for earlier, later in pairwise(values)] == [False, True, True, False]
    for lead in (valley, crest):
        np.testing.assert_allclose(twin.gradient(loss, pair(lead, 0.0), "policy_chosen"), 0.0, atol=1e-4)


def test_aot_sees_the_two_distributions_and_not_which_reference_belongs_to_which_pair() -> None:
    pairs = step()
    order = np.roll(np.arange(7), 3)
    shuffled = dataclasses.replace(
        pairs,
        reference_chosen=pairs.reference_chosen[order],
        reference_rejected=pairs.reference_rejected[order],
    )
    np.testing.assert_allclose(REFERENCED["aot"](shuffled), REFERENCED["aot"](pairs), rtol=1e-12)
    assert np.abs(REFERENCED["cdpo"](shuffled) - REFERENCED["cdpo"](pairs)).max() > 1e-3


def test_aot_of_one_pair_is_dpo() -> None:
    one = step(1)
    np.testing.assert_allclose(REFERENCED["aot"](one), REFERENCED["cdpo"](one), rtol=1e-13)


def test_kto_stays_between_zero_and_its_weight_and_moves_with_the_reference_point() -> None:
    draw = np.random.default_rng(2)
    responses = Responses(draw.normal(size=20) * 50, np.zeros(20), draw.random(20) < 0.5)
    losses = twin.kto(responses, 1.0, 0.5)
    assert np.all((losses >= 0) & (losses <= 1))
    rise = twin.kto(responses, 0.01, 3.0) - twin.kto(responses, 0.01, 0.5)
    assert np.all(rise[responses.desirable] > 0)
    assert np.all(rise[~responses.desirable] < 0)


# --- limits ------------------------------------------------------------------------------------------------------

# Losses for a pair that is right and for one that is wrong by 2 nats (log ratios 1 and -1), as beta grows.
LARGE = 300.0
LIMITS: dict[str, tuple[Loss, float, float]] = {
    "dpo": (partial(twin.dpo, beta=LARGE), 0.0, 2 * LARGE),
    "cdpo": (partial(twin.dpo, beta=LARGE, label_smoothing=0.2), 0.4 * LARGE, 1.6 * LARGE),
    "robust": (partial(twin.robust, beta=LARGE, label_smoothing=0.2), -0.4 * LARGE / 0.6, 1.6 * LARGE / 0.6),
    "hinge": (partial(twin.hinge, beta=LARGE), 0.0, 2 * LARGE + 1),
    "ipo": (partial(twin.ipo, beta=1e15), 4.0, 4.0),
    "dpop": (partial(twin.dpop, beta=LARGE, lambda_=3.0), 0.0, 5 * LARGE),
    "apo_zero": (partial(twin.apo_zero, beta=LARGE), -1.0, 1.0),
    "apo_down": (partial(twin.apo_down, beta=LARGE), 0.0, 0.0),
    "exo": (partial(twin.exo, beta=LARGE, label_smoothing=0.2), -log(0.8), -log(0.2)),
    "nca": (partial(twin.nca, beta=LARGE), 0.5 * LARGE, 1.5 * LARGE),
    "sppo": (partial(twin.sppo, beta=1e15), 2.0, 2.0),
    "bco": (partial(twin.bco, beta=LARGE, delta=0.0), 0.0, 2 * LARGE),
    "discopop": (partial(twin.discopop, beta=LARGE), 0.0, 2 * LARGE),
    "forward_kl": (partial(twin.f_dpo, beta=LARGE, divergence="forward_kl"), 0.0, (e - 1 / e) * LARGE),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_large_beta_leads_to_the_known_limit(name: str) -> None:
    loss, right, wrong = LIMITS[name]
    np.testing.assert_allclose(loss(pair(1.0, -1.0)), right, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(loss(pair(-1.0, 1.0)), wrong, rtol=1e-12, atol=1e-12)


def test_the_logistic_function_neither_overflows_nor_loses_small_numbers() -> None:
    ends = np.array([-800.0, -40.0, 0.0, 40.0, 800.0])
    np.testing.assert_allclose(twin.log_sigmoid(ends), [-800.0, -40.0, -LN2, -exp(-40.0), 0.0], rtol=1e-14)
    np.testing.assert_allclose(twin.sigmoid(ends), [0.0, exp(-40.0), 0.5, 1.0, 1.0], rtol=1e-14, atol=1e-300)
