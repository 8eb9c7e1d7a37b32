"""Preference figures from log-probabilities that are small enough to check by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from penchant.evaluation.preference import preference_figures
from penchant.evaluation.stats import clustered
from penchant.objective.logps import PairLogps

CHOSEN_TOKENS, REJECTED_TOKENS = [5, 4, 3, 3], [4, 4, 1, 2]


def logps(
    chosen: list[float],
    rejected: list[float],
    chosen_tokens: list[int] | None = None,
    rejected_tokens: list[int] | None = None,
) -> PairLogps:
    ones = [1] * len(chosen)
    return PairLogps(
        torch.tensor(chosen, dtype=torch.float32),
        torch.tensor(rejected, dtype=torch.float32),
        torch.tensor(chosen_tokens or ones, dtype=torch.float32),
        torch.tensor(rejected_tokens or ones, dtype=torch.float32),
    )


def random_logps(seed: int, count: int = 40) -> PairLogps:
    """Whole numbers, so that ties occur."""
    coin = random.Random(seed)
    sums = [[-float(coin.randint(1, 9)) for _ in range(count)] for _ in range(2)]
    # of the data, so the same for every model
    lengths = random.Random(99)
    tokens = [[lengths.randint(1, 3) for _ in range(count)] for _ in range(2)]
    return logps(sums[0], sums[1], tokens[0], tokens[1])


def intervals(figures: dict[str, Any]) -> dict[str, tuple[float, list[float]]]:
    """Figures that have an interval, with it."""
    names = [name.removesuffix("_interval") for name in figures if name.endswith("_interval")]
    return {name: (figures[name], figures[f"{name}_interval"]) for name in names}


def test_figures_by_hand() -> None:
    policy = logps([-10, -8, -6, -9], [-12, -8, -4, -10], CHOSEN_TOKENS, REJECTED_TOKENS)
    reference = logps([-11, -8, -5, -9], [-11, -9, -4, -8], CHOSEN_TOKENS, REJECTED_TOKENS)
    figures = preference_figures(policy, reference, ["a", "a", "b", "c"], beta=0.5)
    assert (figures["test_pairs"], figures["test_clusters"]) == (4, 3)
    # policy, sums: won, tie, lost, won; means -2 > -3, -2 = -2, -2 > -4, -3 > -5
    assert figures["preference_accuracy_sum_policy"] == 0.625
    assert figures["preference_accuracy_policy"] == 0.875
    assert (figures["preference_ties_sum_policy"], figures["preference_ties_policy"]) == (1, 1)
    # reference, sums: tie, won, lost, lost; all means won
    assert figures["preference_accuracy_sum_reference"] == 0.375
    assert figures["preference_accuracy_reference"] == 1.0
    assert (figures["preference_ties_sum_reference"], figures["preference_ties_reference"]) == (1, 0)
    assert figures["preference_accuracy_gain"] == -0.125
    # margins 2, -1, -1, 2, times one half
    assert figures["reward_accuracy"] == 0.5
    assert figures["reward_margin"] == 0.25
    assert figures["reward_ties"] == 0
    assert figures["chosen_logps_fell_fraction"] == 0.25


def test_a_tie_counts_one_half() -> None:
    same = logps([-2, -2], [-2, -2])
    figures = preference_figures(same, same, ["a", "b"], beta=0.1)
    for name in ("preference_accuracy_policy", "preference_accuracy_sum_reference", "reward_accuracy"):
        assert figures[name] == 0.5
    assert (figures["reward_ties"], figures["preference_ties_policy"]) == (2, 2)
    assert figures["chosen_logps_fell_fraction"] == 0


def test_swapping_policy_and_reference_swaps_the_figures() -> None:
    ours, theirs = random_logps(1), random_logps(2)
    clusters = [str(index // 2) for index in range(40)]
    there = preference_figures(ours, theirs, clusters, beta=0.3)
    back = preference_figures(theirs, ours, clusters, beta=0.3)
    for name in ("preference_accuracy_", "preference_accuracy_sum_", "preference_ties_", "preference_ties_sum_"):
        assert there[f"{name}policy"] == back[f"{name}reference"]
        assert there[f"{name}reference"] == back[f"{name}policy"]
    assert there["preference_accuracy_policy_interval"] == back["preference_accuracy_reference_interval"]
    assert there["preference_accuracy_policy"] != there["preference_accuracy_reference"]
    assert there["preference_accuracy_gain"] == -back["preference_accuracy_gain"] != 0
    assert there["reward_accuracy"] == pytest.approx(1 - back["reward_accuracy"])
    assert there["reward_margin"] == pytest.approx(-back["reward_margin"])
    assert there["reward_ties"] == back["reward_ties"] > 0


def test_every_interval_holds_its_figure_and_fractions_stay_fractions() -> None:
    clusters = [str(index // 2) for index in range(40)]
    found = intervals(preference_figures(random_logps(3), random_logps(4), clusters, beta=0.3))
    assert len(found) == 8
    for name, (value, (low, high)) in found.items():
        assert low <= value <= high, name
        assert low < high, name
        if name not in ("reward_margin", "preference_accuracy_gain"):
            assert low >= 0, name
            assert high <= 1, name


@pytest.mark.parametrize("better", ["policy", "reference"])
def test_all_or_nothing_is_not_certainty(better: str) -> None:
    good, bad = logps([-1] * 5, [-9] * 5), logps([-9] * 5, [-1] * 5)
    clusters = [*"abcde"]
    if better == "policy":
        figures = preference_figures(good, bad, clusters, beta=0.1)
    else:
        figures = preference_figures(bad, good, clusters, beta=0.1)
    expected = 1.0 if better == "policy" else 0.0
    for name in ("preference_accuracy_policy", "reward_accuracy"):
        low, high = figures[f"{name}_interval"]
        assert figures[name] == expected
        assert 0 <= low <= expected <= high <= 1
        assert high - low > 0.3
    assert figures["reward_margin"] == pytest.approx(1.6 if better == "policy" else -1.6)


def test_one_question_alone_has_figures_but_no_spread() -> None:
    """Fractions keep an interval as wide as one trial allows; a mean and a difference have none."""
    policy, reference = logps([-1, -1, -5], [-2, -2, -2]), logps([-2, -2, -2], [-1, -1, -1])
    figures = preference_figures(policy, reference, ["a", "a", "a"], beta=1.0)
    assert figures["preference_accuracy_policy"] == pytest.approx(2 / 3)
    assert figures["test_clusters"] == 1
    assert "preference_accuracy_gain" not in figures
    found = intervals(figures)
    assert "preference_accuracy_policy" in found
    assert "reward_margin" not in found
    for name, (value, (low, high)) in found.items():
        assert 0 <= low <= value <= high <= 1, name


def test_the_interval_of_a_margin_is_in_its_own_unit() -> None:
    """Also where no margin differs from zero: that is a mean of nats, not a share."""
    same = random_logps(5)
    clusters = [str(index) for index in range(40)]
    assert preference_figures(same, same, clusters, beta=0.1)["reward_margin_interval"] == [0, 0]
    far = logps([-100.0, -120.0], [-1.0, -1.0])
    near = logps([-1.0, -1.0], [-100.0, -120.0])
    figures = preference_figures(far, near, ["a", "b"], beta=1.0)
    assert figures["reward_margin"] == -218
    assert figures["reward_margin_interval"] == [-238, -198]


def test_rows_of_one_question_are_not_counted_as_trials() -> None:
    """Ten copies of three questions say no more than three questions."""
    values = np.array([1.0, 0.0, 1.0])
    once = clustered(values, ["a", "b", "c"])
    often = clustered(np.tile(values, 10), ["a", "b", "c"] * 10)
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
    all_won = clustered(np.ones(30), ["a", "b", "c"] * 10)
    assert (all_won.low, all_won.high) == pytest.approx((0.4385, 1.0), abs=1e-4)  # Wilson, 3 of 3
