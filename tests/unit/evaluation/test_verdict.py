"""Worked, worked at a price, or not clear."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.evaluation.verdict import held_out_verdict, style_verdict


def figures(**changes: Any) -> dict[str, Any]:
    return {
        "test_questions": 260,
        "pass_rate_reference": 0.1,
        "pass_rate_policy": 0.4,
        "degenerate_rate_reference": 0.3,
        "degenerate_rate_policy": 0.2,
        "questions_gained": 90,
        "questions_lost": 12,
        "mcnemar_p": 1e-12,
        "kl_to_reference": 0.0316,
        **changes,
    }


def test_it_worked() -> None:
    found = style_verdict(figures())
    assert found["worked"] is True
    assert found["headline"] == "It worked: answers in the style rose from 10% to 40%."
    assert found["reasons"] == [
        "90 of 260 questions gained, 12 lost (exact McNemar p = 1e-12)",
        "degenerate answers 30% -> 20%",
        "KL to the reference on ordinary prose 0.032 nats per token",
    ]


def test_as_many_degenerate_answers_as_before_are_no_harm() -> None:
    assert style_verdict(figures(degenerate_rate_policy=0.3))["worked"] is True


def test_more_degenerate_answers_are_not_success() -> None:
    found = style_verdict(figures(degenerate_rate_policy=0.31))
    assert found["worked"] is False
    assert found["headline"] == "In the style 10% -> 40%, but more answers are degenerate."


@pytest.mark.parametrize(
    "changes",
    [
        {"mcnemar_p": 0.001},
        {"mcnemar_p": 1.0},
        {"pass_rate_policy": 0.1},
        {"pass_rate_policy": 0.02},
        {"mcnemar_p": 0.2, "degenerate_rate_policy": 0.9},
    ],
)
def test_anything_less_is_not_clear(changes: dict[str, Any]) -> None:
    found = style_verdict(figures(**changes))
    assert found["worked"] is False
    assert found["headline"].startswith("It did not clearly work: answers in the style 10% -> ")


def test_each_control_is_a_reason_and_committed_figures_say_so() -> None:
    here = {"name": "cut", "pass_rate": 0.25, "p_against_dpo": 0.0004, "committed": False}
    came = {"name": "labels", "pass_rate": 0.12, "p_against_dpo": 0.5, "committed": True, "date": "a day in May"}
    reasons = style_verdict(figures(controls=[here, came]))["reasons"]
    assert reasons[3:] == [
        "cut: 25% (p = 0.0004 against the policy)",
        "labels: 12% (figures of a day in May, not of this run)",
    ]


def test_a_control_of_this_run_that_is_not_beaten_stands_in_the_headline() -> None:
    beaten = {"name": "labels", "pass_rate": 0.1, "p_against_dpo": 1e-6, "committed": False}
    close = {"name": "cut", "pass_rate": 0.38, "p_against_dpo": 0.3, "committed": False}
    above = {"name": "SFT", "pass_rate": 0.6, "p_against_dpo": 1e-6, "committed": False}
    headline = style_verdict(figures(controls=[beaten, close, above]))["headline"]
    assert headline.endswith("10% to 40%. Not clearly above: cut, SFT.")


@pytest.mark.parametrize(
    ("held_out", "worked", "said"),
    [
        (
            {
                "preference_accuracy_reference": 0.5,
                "preference_accuracy_policy": 0.6,
                "preference_accuracy_gain_interval": [0.02, 0.18],
                "test_pairs": 40,
                "chosen_logps_fell_fraction": 0.9,
            },
            True,
            "It worked on held-out data: it puts the chosen response first in 60.0% of 40 held-out pairs",
        ),
        (
            {"token_loss_reference": 2.0, "token_loss_policy": 2.1, "token_loss_change_interval": [0.05, 0.15]},
            False,
            "It did not work on held-out data, it got worse: the loss on held-out examples is 2.100",
        ),
        (
            {"reward_auc": 0.7, "reward_auc_interval": [0.55, 0.85]},
            True,
            "a desirable response has the higher reward in 70.0% of couples",
        ),
        ({"reward_auc": 0.45, "reward_auc_interval": [0.3, 0.6]}, None, "the change is within chance"),
        ({"reward_auc": None, "reward_auc_interval": None}, None, ""),
        ({"reward_auc": True, "reward_auc_interval": [0.6, "0.7"]}, None, ""),
    ],
)
def test_a_verdict_on_held_out_data(held_out: dict[str, Any], worked: bool | None, said: str) -> None:
    found = held_out_verdict(held_out)
    assert found.get("worked") is worked
    assert said in found.get("headline", "")
    assert bool(found) == bool(said)
