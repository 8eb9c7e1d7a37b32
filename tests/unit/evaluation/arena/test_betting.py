"""Whether it is decided: a test that stays valid however often one looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.evaluation.arena.betting import confidence_sequence, decide, log_fortunes

SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=40)


@settings(max_examples=15)
@given(SCORES)
def test_bounds_only_close_in_and_swapping_the_models_mirrors_them(values: list[float]) -> None:
    lows, highs = confidence_sequence(values)
    assert (lows <= highs).all()
    mirrored_lows, mirrored_highs = confidence_sequence([1 - value for value in values])
    fits = highs - lows > 0.02  # otherwise no mean fits, and the best one need not be unique
    assert (np.diff(lows[fits]) >= 0).all()
    assert (np.diff(highs[fits]) <= 0).all()
    np.testing.assert_allclose(mirrored_lows[fits], 1 - highs[fits], atol=1e-12)
    np.testing.assert_allclose(mirrored_highs[fits], 1 - lows[fits], atol=1e-12)


def test_nothing_is_decided_by_nothing_or_by_ties() -> None:
    assert decide([]) == decide([0.5] * 0)
    assert (decide([]).low, decide([]).high, decide([]).at) == (0, 1, None)
    ties = decide([0.5] * 200)
    assert ties.at is None
    assert ties.evidence == pytest.approx(1)
    assert ties.low < 0.5 < ties.high


def test_wins_in_a_row_decide_and_what_was_decided_stays_so() -> None:
    found = decide([1.0] * 10)
    assert found.at == 8
    assert found.low > 0.5
    later = decide([1.0] * 10 + [0.5] * 30)
    assert (later.at, later.low) >= (found.at, found.low)
    assert later.evidence >= found.evidence > 20


def test_a_fortune_is_fair_where_the_mean_is_what_was_bet_against() -> None:
    """Over all sequences of six fair coins, each as likely, the mean fortune stays 1 at every step."""
    coins = np.array([[number >> place & 1 for place in range(6)] for number in range(64)], dtype=np.float64)
    fortunes = np.exp([log_fortunes(row, 0.5) for row in coins]).mean(axis=0)
    np.testing.assert_allclose(fortunes, 1.0, rtol=1e-12)


@pytest.mark.parametrize(("values", "alpha"), [([1.1], 0.05), ([0.5], 0.0), ([0.5], 1.0)])
def test_what_is_no_score_is_refused(values: list[float], alpha: float) -> None:
    with pytest.raises(ValueError, match="observations lie in"):
        decide(values, alpha=alpha)


def first_stops(rng: np.random.Generator, rate: float, ties: float, runs: int, votes: int) -> np.ndarray:
    """After how many votes each of some arenas stops; 0 = never."""
    scores = np.where(rng.random((runs, votes)) < ties, 0.5, rng.random((runs, votes)) < rate)
    over = np.array([log_fortunes(row, 0.5) >= np.log(20) for row in scores])
    return np.where(over.any(axis=1), over.argmax(axis=1) + 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("ties", [0.0, 0.3, 0.8])
def test_between_equal_models_at_most_one_arena_in_twenty_ever_stops(ties: float) -> None:
    """Looked at after each of 1000 votes."""
    stops = first_stops(np.random.default_rng(0), 0.5, ties, 2000, 1000)
    share = float((stops > 0).mean())
    print(f"false stops at {ties:.0%} ties: {share:.2%}")
    assert share <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "most"), [(0.6, 250), (0.7, 65)])
def test_how_many_votes_it_takes(rate: float, most: int) -> None:
    stops = first_stops(np.random.default_rng(1), rate, 0.0, 1000, 2000)
    assert (stops > 0).all()
    quarter, median, three = np.percentile(stops, [25, 50, 75])
    print(f"at {rate:.0%}: median {median:.0f} votes, quartiles {quarter:.0f} and {three:.0f}")
    assert median <= most
