"""What is said of the held-out loss after SFT."""

from __future__ import annotations

from penchant.cli.likelihood_view import describe_likelihood

FIGURES = {
    "test_examples": 3,
    "test_example_tokens": 160,
    "token_loss_reference": 2.5,
    "token_loss_policy": 2.0,
    "token_loss_change": -0.5,
    "examples_better_fraction": 2 / 3,
}


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert describe_likelihood({"preference_accuracy_policy": 0.5}) == ""


def test_losses_and_their_change_with_intervals_where_there_are_any() -> None:
    plain = describe_likelihood(FIGURES)
    assert "3, 160 scored tokens" in plain
    assert "2.5000 -> 2.0000" in plain
    assert "66.7% of the examples" in plain
    intervals = {
        "token_loss_reference_interval": [2.4, 2.6],
        "token_loss_policy_interval": [1.9, 2.1],
        "token_loss_change_interval": [-0.55, -0.45],
    }
    told = describe_likelihood(FIGURES | intervals)
    assert "2.5000 [2.4000, 2.6000] -> 2.0000 [1.9000, 2.1000]" in told
    assert "-0.5000 [-0.5500, -0.4500]" in told
