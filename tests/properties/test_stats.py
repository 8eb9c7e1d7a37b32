"""What holds for every figure: its interval contains it, its range is kept, swapping sides mirrors it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.evaluation.stats import cluster_bootstrap, mcnemar_exact, paired_bootstrap_difference, wilson

confidences = st.floats(0.01, 0.999)
numbers = st.floats(-1e6, 1e6)
counts = st.integers(0, 400)


@st.composite
def shares(draw: st.DrawFn) -> tuple[int, int]:
    trials = draw(st.integers(1, 5000))
    return draw(st.integers(0, trials)), trials


@st.composite
def clustered(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[int]]:
    rows = draw(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
    labels = draw(st.lists(st.integers(0, 5), min_size=len(rows) - 2, max_size=len(rows) - 2))
    return rows, [0, 1, *labels]  # at least two clusters


@given(shares(), confidences)
def test_wilson_contains_the_share_within_zero_and_one(share: tuple[int, int], confidence: float) -> None:
    interval = wilson(*share, confidence)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@given(shares(), confidences)
def test_wilson_of_failures_is_the_mirror_image(share: tuple[int, int], confidence: float) -> None:
    successes, trials = share
    won, lost = wilson(successes, trials, confidence), wilson(trials - successes, trials, confidence)
    assert (won.low, won.high) == (pytest.approx(1 - lost.high), pytest.approx(1 - lost.low))


@given(shares(), st.integers(2, 10), confidences)
def test_wilson_is_wider_for_fewer_trials(share: tuple[int, int], times: int, confidence: float) -> None:
    few, many = wilson(*share, confidence), wilson(share[0] * times, share[1] * times, confidence)
    assert few.high - few.low > many.high - many.low


@given(shares(), st.floats(0.01, 0.9))
def test_wilson_is_wider_for_more_confidence(share: tuple[int, int], confidence: float) -> None:
    sure, surer = wilson(*share, confidence), wilson(*share, confidence + 0.05)
    assert surer.low <= sure.low
    assert sure.high <= surer.high


@given(clustered(), confidences, st.integers(0, 2**32))
def test_bootstrap_contains_the_mean_within_the_values(
    data: tuple[list[tuple[float, float]], list[int]], confidence: float, seed: int
) -> None:
    rows, labels = data
    values = [first for first, _ in rows]
    interval = cluster_bootstrap(values, labels, seed=seed, resamples=100, confidence=confidence)
    rounding = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - rounding <= interval.low <= interval.value <= interval.high <= max(values) + rounding
    assert interval.value == pytest.approx(sum(values) / len(values), rel=1e-9, abs=rounding)


@given(clustered())
def test_bootstrap_does_not_depend_on_the_names_of_clusters(
    data: tuple[list[tuple[float, float]], list[int]],
) -> None:
    rows, labels = data
    values = [first for first, _ in rows]
    renamed = [f"question {label}" for label in labels]
    assert cluster_bootstrap(values, labels, resamples=50) == cluster_bootstrap(values, renamed, resamples=50)


@given(clustered())
def test_swapping_the_two_sides_negates_the_difference(
    data: tuple[list[tuple[float, float]], list[int]],
) -> None:
    rows, labels = data
    first, second = [a for a, _ in rows], [b for _, b in rows]
    one = paired_bootstrap_difference(first, second, labels, resamples=100)
    other = paired_bootstrap_difference(second, first, labels, resamples=100)
    assert one.value == pytest.approx(-other.value, abs=1e-6)
    assert (one.low, one.high) == (pytest.approx(-other.high, abs=1e-6), pytest.approx(-other.low, abs=1e-6))


@given(counts, counts)
def test_mcnemar_is_a_probability_and_does_not_know_who_is_first(first_only: int, second_only: int) -> None:
    p = mcnemar_exact(first_only, second_only)
    assert 0 < p <= 1
    assert p == mcnemar_exact(second_only, first_only)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_falls_as_the_sides_drift_apart(fewer: int, lead: int) -> None:
    assert mcnemar_exact(fewer, fewer + lead + 1) <= mcnemar_exact(fewer, fewer + lead)
