"""The held-out loss per token: weighted by tokens, paired, clustered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from penchant.evaluation.likelihood import likelihood_figures
from penchant.objective.logps import PairLogps


def logps(sums: list[float], tokens: list[int]) -> PairLogps:
    nothing = torch.zeros(len(sums))
    return PairLogps(torch.tensor(sums), nothing, torch.tensor(tokens, dtype=torch.float32), nothing)


TOKENS = [10, 2, 4]
BEFORE, AFTER = logps([-30.0, -4.0, -8.0], TOKENS), logps([-20.0, -6.0, -6.0], TOKENS)


def test_every_token_counts_the_same() -> None:
    figures = likelihood_figures(AFTER, BEFORE, ["a", "b", "c"])
    assert figures["token_loss_reference"] == pytest.approx(42 / 16)
    assert figures["token_loss_policy"] == pytest.approx(32 / 16)
    assert figures["token_loss_change"] == pytest.approx(-10 / 16)
    assert figures["examples_better_fraction"] == pytest.approx(2 / 3)
    assert (figures["test_examples"], figures["test_example_clusters"], figures["test_example_tokens"]) == (
        3,
        3,
        16,
    )


def test_swapped_models_swap_their_figures() -> None:
    there, back = (likelihood_figures(*both, ["a", "b", "c"]) for both in ((AFTER, BEFORE), (BEFORE, AFTER)))
    assert there["token_loss_change"] == -back["token_loss_change"]
    assert there["token_loss_policy_interval"] == back["token_loss_reference_interval"]


def test_the_change_is_known_better_than_the_losses() -> None:
    """Examples differ by far more than the models do, and each is its own control."""
    coin = np.random.default_rng(3)
    tokens = coin.integers(5, 50, 200)
    each = coin.uniform(1, 6, 200)
    before = logps((-each * tokens).tolist(), tokens.tolist())
    after = logps(((-each + 0.1 + coin.normal(0, 0.05, 200)) * tokens).tolist(), tokens.tolist())
    figures = likelihood_figures(after, before, [str(i // 2) for i in range(200)])
    low, high = figures["token_loss_change_interval"]
    assert -0.12 < low < -0.1 < high < -0.08
    wide_low, wide_high = figures["token_loss_policy_interval"]
    assert wide_low < figures["token_loss_policy"] < wide_high
    assert wide_high - wide_low > 10 * (high - low)
    low, high = figures["examples_better_fraction_interval"]
    assert low <= figures["examples_better_fraction"] <= high


def test_one_question_has_no_interval() -> None:
    figures = likelihood_figures(AFTER, BEFORE, ["same"] * 3)
    assert figures["token_loss_change"] == pytest.approx(-10 / 16)
    assert not any(name.endswith("_interval") for name in figures)
