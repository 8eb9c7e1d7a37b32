"""Monitors on figures made up by hand: what trips each of them, and what does not."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from penchant.evaluation.monitors import (
    displacement,
    drift,
    length_only,
    no_improvement,
    per_token_interval,
)

Line = Mapping[str, Any]


def steps(count: int, make: Callable[[int], dict[str, float]]) -> list[Line]:
    """Lines of a run of `count` steps of eight pairs."""
    common = {"pairs": 8, "grad_norm": 5.0, "chosen_fell_fraction": 0.0}
    return [
        {**common, "step": index + 1, **(make(index) if index else {**make(0), **START})} for index in range(count)
    ]


START = {"chosen_fell_fraction": 0.0, "rewards/chosen": 0.0, "rewards/margins": 0.0, "rewards/accuracies": 0.5}


def learning(index: int) -> dict[str, float]:
    noise = random.Random(index).gauss(0, 0.02)
    return {
        "chosen_fell_fraction": 0.3 + noise,
        "rewards/chosen": 0.01 * index + noise,
        "rewards/margins": 0.02 * index + noise,
        "rewards/accuracies": 0.7 + noise,
    }


def displaced(index: int) -> dict[str, float]:
    return {**learning(index), "chosen_fell_fraction": min(1.0, index / 40), "rewards/chosen": -0.02 * index}


def flat(index: int) -> dict[str, float]:
    noise = random.Random(index).gauss(0, 0.02)
    return {**learning(index), "rewards/margins": noise, "rewards/accuracies": 0.5 + noise}


def test_a_run_that_learns_has_no_finding() -> None:
    assert displacement(steps(40, learning)) is None
    assert no_improvement(steps(40, learning)) is None


def test_a_fall_of_most_chosen_responses_is_found_with_its_trend() -> None:
    found = displacement(steps(40, displaced))
    assert found is not None
    assert found.step == 40
    assert found.figures["share"] == pytest.approx(34.5 / 40)
    assert 0.7 < found.figures["share_interval"][0] < 34.5 / 40
    assert found.figures["before"] == pytest.approx(24.5 / 40)
    assert found.figures["reward"] == pytest.approx(-0.02 * 34.5)
    assert "86% of the last 80 lie" in found.summary
    assert "up from 61% before that" in found.summary
    assert any("nll_weight" in remedy for remedy in found.remedies)
    assert any("dpop" in remedy for remedy in found.remedies)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"chosen_fell_fraction": 0.55}, 40),  # of 80 pairs that is no majority for sure
        ({"rewards/chosen": 0.1}, 40),  # most fell, but by less than the others rose
        ({}, 24),  # 48 recent pairs are too few to say anything
    ],
)
def test_what_could_be_chance_is_no_displacement(changes: dict[str, float], count: int) -> None:
    everything = {"chosen_fell_fraction": 1.0, "rewards/chosen": -1.0}
    assert displacement(steps(40, lambda index: {**learning(index), **everything})) is not None
    assert displacement(steps(count, lambda index: {**learning(index), **everything, **changes})) is None


def test_a_loss_without_reference_has_no_displacement() -> None:
    lines = [{key: value for key, value in line.items() if "fell" not in key} for line in steps(40, displaced)]
    assert displacement(lines) is None


def test_flat_margins_and_a_coins_accuracy_are_no_improvement() -> None:
    found = no_improvement(steps(40, flat))
    assert found is not None
    assert "in the last 20 steps" in found.summary
    assert "gradient" not in found.summary
    assert any("learning_rate" in remedy for remedy in found.remedies)


@pytest.mark.parametrize("sign", ["rewards/margins", "rewards/accuracies"])
def test_one_sign_of_learning_is_enough(sign: str) -> None:
    def line(index: int) -> dict[str, float]:
        margin = 0.2 if index % 2 else -0.17  # more than nothing in the mean, and no step agrees with the next
        return {**flat(index), "rewards/margins": margin, sign: learning(index)[sign]}

    assert no_improvement(steps(40, line)) is None


def test_a_certain_margin_of_next_to_nothing_is_no_improvement() -> None:
    """As of a learning rate far too small: every pair moves the right way, and none by anything."""
    tiny = {"rewards/margins": 1e-4, "rewards/accuracies": 1.0}
    assert no_improvement(steps(40, lambda index: {**learning(index), **tiny})) is not None
    assert no_improvement(steps(40, lambda index: {**learning(index), **tiny, "rewards/margins": 0.02})) is None


def test_a_vanished_gradient_is_said() -> None:
    found = no_improvement(steps(40, lambda index: {**flat(index), "grad_norm": 5.0 if index < 8 else 1e-9}))
    assert found is not None
    assert "the gradient is about zero" in found.summary


def test_without_a_reference_later_steps_are_compared_with_the_first() -> None:
    """Rewards of the policy's own log-probabilities do not begin at zero."""

    def own(index: int) -> dict[str, float]:
        return {**flat(index), "rewards/margins": 3.0 + flat(index)["rewards/margins"], "rewards/accuracies": 0.8}

    def stripped(lines: list[Line]) -> list[Line]:
        kept = [{key: value for key, value in line.items() if "fell" not in key} for line in lines]
        return [{**kept[0], "rewards/margins": 3.0, "rewards/accuracies": 0.8}, *kept[1:]]

    assert no_improvement(stripped(steps(40, own))) is not None
    rising = stripped(steps(40, lambda index: {**own(index), "rewards/margins": 3.0 + 0.05 * index}))
    assert no_improvement(rising) is None


def test_a_step_of_one_label_does_not_hide_the_others() -> None:
    """KTO has a margin only where a step has responses of both labels, and no accuracy."""

    def kto(index: int) -> dict[str, float]:
        line = {"rewards/desirable": 0.01 * index, "rewards/margins": learning(index)["rewards/margins"]}
        return {"rewards/desirable": line["rewards/desirable"]} if index == 39 else line

    def lines(make: Callable[[int], dict[str, float]]) -> list[Line]:
        common = {"pairs": 8, "grad_norm": 5.0, "chosen_fell_fraction": 0.0}
        return [{**common, "step": index + 1, **make(index)} for index in range(40)]

    assert no_improvement(lines(kto)) is None
    still = no_improvement(lines(lambda index: {**kto(index), "rewards/margins": flat(index)["rewards/margins"]}))
    assert still is not None
    assert "accuracy" not in still.summary


def test_sft_is_judged_by_its_loss() -> None:
    def line(index: int, slope: float) -> Line:
        return {"step": index + 1, "pairs": 8, "grad_norm": 1.0, "loss": 3.0 + slope * index + 0.01 * (index % 3)}

    assert no_improvement([line(index, -0.02) for index in range(40)]) is None
    found = no_improvement([line(index, 0.001) for index in range(40)])
    assert found is not None
    assert "the loss of the last 20 steps" in found.summary


def test_a_run_too_short_to_tell_is_not_called_flat() -> None:
    assert no_improvement(steps(12, flat)) is None


def pair_lines(*, by_length: bool, count: int = 40) -> list[Line]:
    """Pairs of which three in four prefer the longer response; margins follow the length, or the label."""
    coin, lines = random.Random(0), []
    for step in range(1, count + 1):
        longer = [coin.random() < 0.75 for _ in range(8)]
        right = [long if by_length else coin.random() < 0.75 for long in longer]
        lines.append(
            {
                "step": step,
                "id": [f"{step}-{place}" for place in range(8)],
                "chosen_log_ratio": [0.1 if yes else -0.1 for yes in right],
                "rejected_log_ratio": [0.0] * 8,
                "chosen_tokens": [20 if yes else 10 for yes in longer],
                "rejected_tokens": [10 if yes else 20 for yes in longer],
            }
        )
    return lines


def test_margins_that_follow_length_are_found() -> None:
    found = length_only(steps(40, learning), pair_lines(by_length=True))
    assert found is not None
    assert found.figures["against_length"] == 0.0
    assert found.figures["length_baseline"] == pytest.approx(found.figures["accuracy"])
    assert "choosing the longer response" in found.summary


def test_margins_that_follow_the_labels_are_not() -> None:
    assert length_only(steps(40, learning), pair_lines(by_length=False)) is None


@pytest.mark.parametrize(("right", "found"), [(0.97, True), (0.7, True), (0.5, False)])
def test_labels_that_nearly_all_go_with_length_cannot_tell(right: float, found: bool) -> None:
    """Unless nothing was learnt at all, which is another finding."""
    coin, lines = random.Random(0), []
    for step in range(1, 41):
        margins = [0.1 if coin.random() < right else -0.1 for _ in range(8)]
        shorter = step % 8 == 0  # one pair in 64
        lengths = {"chosen_tokens": [30] * 7 + [5 if shorter else 30], "rejected_tokens": [10] * 8}
        lines.append({"step": step, "chosen_log_ratio": margins, "rejected_log_ratio": [0.0] * 8, **lengths})
    finding = length_only(steps(40, learning), lines)
    assert (finding is not None) == found
    if finding is not None:
        assert finding.figures["against_length"] is None
        assert "choosing the longer response gives 98." in finding.summary


def test_too_few_pairs_say_nothing_of_length() -> None:
    assert length_only(steps(10, learning), pair_lines(by_length=True, count=10)) is None
    assert length_only([], []) is None


def generation(step: int, *, tokens: int = 30, repeated: float = 0.0, kl: float = 0.1) -> Line:
    coin = random.Random(step)
    drawn = [tokens + coin.randint(-5, 5) for _ in range(32)]
    repetitions = [min(1.0, max(0.0, repeated + coin.gauss(0, 0.02))) for _ in range(32)]
    return {
        "step": step,
        "kl_per_token": kl,
        "kl_per_token_interval": [kl - 0.02, kl + 0.02],
        "mean_tokens": sum(drawn) / 32,
        "repetition": sum(repetitions) / 32,
        "tokens": drawn,
        "repetitions": repetitions,
    }


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"tokens": 60}, "60 tokens in the mean"),
        ({"tokens": 12}, "tokens in the mean"),
        ({"repeated": 0.4}, "of four-grams repeated"),
        ({"kl": 0.9}, "KL from the reference 0.90 nats per token"),
    ],
)
def test_each_kind_of_drift_is_found(last: dict[str, Any], words: str) -> None:
    found = drift([generation(0), generation(50), generation(100, **last)])
    assert found is not None
    assert found.step == 100
    assert words in found.summary
    assert ";" not in found.summary


def test_answers_that_change_a_little_have_not_drifted() -> None:
    assert drift([generation(0), generation(100, tokens=36, repeated=0.05, kl=0.4)]) is None
    assert drift([generation(0, kl=0.0)]) is None


def test_the_divergence_is_a_ratio_of_sums() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 40, 200)
    sums = 0.3 * tokens + rng.normal(0, 1, 200)
    found = per_token_interval(sums.tolist(), tokens.tolist())
    assert found.value == pytest.approx(sums.sum() / tokens.sum())
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.1
