"""What votes say of models and raters."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.arenas import contest, likes_first, likes_left, voted

from penchant.evaluation.arena.figures import arena_figures
from penchant.evaluation.arena.noise import flipped_share, label_noise, smoothing_offer
from penchant.evaluation.arena.votes import Choice, rater_name


def figures(prompts: int, *raters: tuple[str, Any], repeats: float = 0.125) -> dict[str, Any]:
    found = contest(prompts, repeats=repeats)
    return arena_figures(found.names, prompts, voted(found, *raters))


def test_a_rater_who_always_takes_the_better_one() -> None:
    found = figures(40, ("ann", likes_first), ("bob", likes_first))
    assert (found["votes"], found["prompts_rated"]) == (80, 40)
    assert found["win_rate"]["value"] == 1
    assert found["choices"] == {"first": 80, "second": 0, "tie": 0, "bad": 0}
    assert found["decided"]["better"] == "first"
    assert found["decided"]["at"] < 15
    assert found["decided"]["prompts"] == 40
    assert found["agreement"]["value"] == 1
    assert [rater["consistency"]["value"] for rater in found["raters"]] == [1, 1]
    assert found["raters"][0]["side_bias"] is None
    assert found["label_noise"]["value"] == 0
    assert found["label_smoothing"]["setting"] == ""


def test_a_rater_who_always_takes_the_left_is_told_so() -> None:
    found = figures(48, ("eve", likes_left), repeats=0.25)
    [rater] = found["raters"]
    assert rater["consistency"]["repeats"] == 12
    assert rater["consistency"]["value"] == 0
    assert rater["side_bias"] == "left"
    assert found["label_noise"]["value"] == 0.5
    assert "coin" in found["label_smoothing"]["why"]
    assert found["label_smoothing"]["setting"] == ""
    assert found["decided"]["better"] is None
    assert 0.3 < found["win_rate"]["value"] < 0.7


def test_the_noise_of_a_rater_who_errs_is_found() -> None:
    """One label in five is flipped, over 400 repeated pairs."""
    chance = random.Random(0)

    def errs(entry: int, swapped: bool) -> Choice:
        return "left" if swapped == (chance.random() < 0.8) else "right"

    found = figures(800, ("ann", errs), repeats=0.5)
    assert found["label_noise"]["pairs"] == 400
    low, high = found["label_noise"]["interval"]
    assert low < 0.2 < high
    value = float(found["label_smoothing"]["setting"].removeprefix("--set objective.label_smoothing="))
    assert value == pytest.approx(0.2, abs=0.05)
    assert found["win_rate"]["value"] == pytest.approx(0.2, abs=0.05)


def test_ties_and_skips_are_counted_for_what_they_are() -> None:
    rule: dict[int, Choice] = {0: "tie", 1: "bad", 2: "skip", 3: "left"}
    found = figures(8, ("ann", lambda entry, swapped: rule[entry % 4]), repeats=0)
    assert found["skipped"] == 2
    assert (found["choices"]["tie"], found["choices"]["bad"], found["votes"]) == (2, 2, 6)
    assert found["prompts_rated"] == 6
    assert found["label_noise"] is None
    assert figures(8)["win_rate"] is None


def test_the_flipped_share_solves_its_equation() -> None:
    for share in (0, 0.01, 0.1, 0.3, 0.49):
        assert flipped_share(2 * share * (1 - share)) == pytest.approx(share)
    assert flipped_share(0.5) == flipped_share(1) == 0.5
    assert label_noise(0, 0) is None
    noise = label_noise(6, 20)
    assert noise is not None
    assert noise.low < noise.value < noise.high
    assert smoothing_offer(noise, 20).setting == "--set objective.label_smoothing=0.184"
    assert smoothing_offer(noise, 9).setting == ""


@pytest.mark.parametrize(("typed", "kept"), [("  Ann  B ", "Ann B"), ("", "rater"), ("é<b>", "é<b>")])
def test_a_name_is_kept_as_typed_but_for_white_space(typed: str, kept: str) -> None:
    assert rater_name(typed) == kept


@pytest.mark.parametrize("typed", ["a" * 41, "a\u202eb", "a\0b"])
def test_a_name_that_cannot_be_shown_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        rater_name(typed)
