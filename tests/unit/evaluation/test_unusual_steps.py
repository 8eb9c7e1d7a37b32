"""Steps that stand out, by the documented formula and nothing else."""

from __future__ import annotations

import random
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.evaluation.unusual_steps import unusual_steps
from penchant.evaluation.verdict_figures import main_figure


def rows(values: list[float], key: str = "loss") -> list[dict[str, Any]]:
    return [{"step": step, key: value} for step, value in enumerate(values, start=1)]


def noisy(count: int, seed: int = 0) -> list[float]:
    coin = random.Random(seed)
    return [0.7 - 0.0005 * step + coin.gauss(0, 0.05) for step in range(count)]


def test_a_spike_is_found_with_its_reason_and_noise_is_not() -> None:
    values = noisy(400)
    assert unusual_steps(rows(values)) == []
    values[199] = 2.0
    (found,) = unusual_steps(rows(values))
    assert (found.step, found.key, found.steps_before) == (200, "loss", 50)
    assert found.reason.startswith("loss 2, ")
    assert "the median of the 50 steps before" in found.reason


def test_a_gradient_counts_too_and_the_farthest_is_first() -> None:
    lines = [{"step": step, "loss": 0.5, "grad_norm": 3.0} for step in range(1, 30)]
    lines[14]["grad_norm"], lines[20]["loss"] = 9.0, 50.0
    assert [(one.step, one.key) for one in unusual_steps(lines)] == [(21, "loss"), (15, "grad_norm")]
    assert len(unusual_steps(lines, most=1)) == 1


def test_a_drop_a_beginning_and_strange_values_are_none() -> None:
    assert unusual_steps(rows([1.0] * 20 + [0.0])) == []
    assert unusual_steps(rows([1.0] * 7 + [100.0])) == []
    strange: list[Any] = [1.0] * 20 + [float("nan"), float("inf"), None, "9", True, 10**400, [1]]
    assert unusual_steps(rows(strange)) == []
    assert unusual_steps([]) == []


@given(st.lists(st.floats(-100, 100), max_size=80))
def test_the_formula_is_the_one_that_is_written_down(values: list[float]) -> None:
    expected = set()
    for place in range(8, len(values)):
        before = values[max(0, place - 50) : place]
        middle = median(before)
        spread = max(1.4826 * median(abs(value - middle) for value in before), 0.01 * abs(middle))
        if spread and (values[place] - middle) / spread > 6 * (1 + 1e-9):
            expected.add(place + 1)
    assert expected <= {one.step for one in unusual_steps(rows(values), most=100)}
    lenient = {one.step for one in unusual_steps(rows(values), most=100) if one.deviations > 6 * (1 + 1e-6)}
    assert lenient <= expected


@pytest.mark.parametrize(
    ("summary", "worked", "start"),
    [
        ({}, None, ""),
        ({"verdict": {"headline": "It worked.", "worked": True}}, True, "It worked."),
        ({"verdict": {"headline": "No.", "worked": "yes"}}, False, "No."),
        ({"verdict": "odd"}, None, ""),
        (
            {"preference_accuracy_gain": 0.05, "preference_accuracy_gain_interval": [0.01, 0.09]},
            True,
            "Preference accuracy +5 points (+1 to +9).",
        ),
        (
            {"preference_accuracy_gain": 0.05, "preference_accuracy_gain_interval": [-0.01, 0.09]},
            None,
            "Preference accuracy +5",
        ),
        (
            {"token_loss_change": 0.2, "token_loss_change_interval": [0.1, 0.3]},
            False,
            "Loss per held-out token +0.2 nats",
        ),
        ({"preference_accuracy_gain": 1e99, "preference_accuracy_gain_interval": [0, "1"]}, None, ""),
    ],
)
def test_an_evaluation_in_a_line(summary: dict[str, Any], worked: bool | None, start: str) -> None:
    sentence, good = main_figure(summary)
    assert good is worked
    assert sentence.startswith(start)
    assert bool(sentence) == bool(start)
