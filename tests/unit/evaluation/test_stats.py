"""Every figure against a value worked out by hand, or against all cases written out."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from penchant.evaluation import stats
from penchant.evaluation.stats import (
    Interval,
    cluster_bootstrap,
    mcnemar_exact,
    paired_bootstrap_difference,
    wilson,
)


def test_wilson_of_eight_in_ten_is_the_root_of_the_score_equation() -> None:
    z = 1.959963984540054
    # The bounds p solve (0.8 - p)^2 = z^2 p (1 - p) / 10, a quadratic in p.
    a, b, c = 1 + z * z / 10, -(1.6 + z * z / 10), 0.64
    root = math.sqrt(b * b - 4 * a * c)
    interval = wilson(8, 10)
    assert interval.value == 0.8
    assert interval.low == pytest.approx((-b - root) / (2 * a), abs=1e-12)
    assert interval.high == pytest.approx((-b + root) / (2 * a), abs=1e-12)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.4902, 0.9433)


def test_wilson_of_all_successes_is_not_certainty() -> None:
    z = 1.959963984540054
    interval = wilson(20, 20)
    assert interval.high == 1.0
    assert interval.low == pytest.approx(20 / (20 + z * z), abs=1e-12)
    assert wilson(0, 20).low == 0.0


def test_wilson_counts_a_tie_as_one_half() -> None:
    assert wilson(2.5, 5).value == 0.5


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"),
    [(0, 0, 0.95), (1, -1, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 0.0), (1, 2, 1.0), (math.nan, 2, 0.95)],
)
def test_wilson_refuses_what_has_no_answer(successes: float, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"at least one trial|successes must|confidence must"):
        wilson(successes, trials, confidence)


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    trials, truth = 40, 0.7
    covered = sum(
        math.comb(trials, k) * truth**k * (1 - truth) ** (trials - k)
        for k in range(trials + 1)
        if wilson(k, trials).low <= truth <= wilson(k, trials).high
    )
    assert 0.93 < covered < 0.97


def test_cluster_bootstrap_agrees_with_all_resamples_written_out() -> None:
    clusters = {"a": [1.0, 0.0, 4.0], "b": [3.0], "c": [7.0, 9.0]}
    means = []
    for drawn in itertools.product(clusters.values(), repeat=3):  # 27 equally likely draws
        rows = [value for cluster in drawn for value in cluster]
        means.append(sum(rows) / len(rows))
    low, high = np.quantile(np.repeat(means, 4000), [0.1, 0.9])
    interval = cluster_bootstrap(
        [1.0, 3.0, 7.0, 0.0, 4.0, 9.0],
        ["a", "b", "c", "a", "a", "c"],
        resamples=40_000,
        confidence=0.8,
    )
    assert interval.value == pytest.approx(4.0)
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_cluster_bootstrap_of_single_rows_nears_the_normal_interval() -> None:
    rows = np.random.default_rng(3).normal(size=2000)
    interval = cluster_bootstrap(rows, range(2000), resamples=4000)
    half_width = 1.959964 * rows.std() / math.sqrt(2000)
    assert interval.high - interval.value == pytest.approx(half_width, rel=0.1)
    assert interval.value - interval.low == pytest.approx(half_width, rel=0.1)


def test_copies_of_a_row_within_its_cluster_add_no_certainty() -> None:
    rows = np.random.default_rng(5).normal(size=60)
    once = cluster_bootstrap(rows, range(60))
    tenfold = cluster_bootstrap(np.repeat(rows, 10), np.repeat(np.arange(60), 10).tolist())
    as_if_independent = cluster_bootstrap(np.repeat(rows, 10), range(600))
    assert (tenfold.low, tenfold.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert as_if_independent.high - as_if_independent.low < 0.5 * (once.high - once.low)


def test_cluster_bootstrap_draws_in_blocks_when_there_are_many_clusters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.random.default_rng(7).normal(size=50)
    whole = cluster_bootstrap(rows, range(50))
    monkeypatch.setattr(stats, "_DRAWS_AT_ONCE", 1000)
    blocks = cluster_bootstrap(rows, range(50))
    assert (blocks.low, blocks.high) == (
        pytest.approx(whole.low, abs=0.03),
        pytest.approx(whole.high, abs=0.03),
    )


def test_a_seed_decides_the_interval() -> None:
    rows, labels = [i * i % 97 for i in range(60)], [i // 2 for i in range(60)]
    assert cluster_bootstrap(rows, labels, seed=4) == cluster_bootstrap(rows, labels, seed=4)
    assert cluster_bootstrap(rows, labels, seed=4) != cluster_bootstrap(rows, labels, seed=5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster_bootstrap([], []), "non-empty"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a"]), "2 values but 1 cluster label"),
        (lambda: cluster_bootstrap([1.0, math.nan], ["a", "b"]), "finite"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a", "a"]), "at least two"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a", "b"], weights=[1.0]), "needs a weight"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a", "b"], weights=[1.0, 0.0]), "above 0"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a", "b"], weights=[1.0, math.inf]), "above 0"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a", "b"], resamples=0), "resamples"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a", "b"], confidence=1.5), "confidence"),
        (lambda: paired_bootstrap_difference([], [], []), "non-empty"),
        (lambda: paired_bootstrap_difference([1.0, 2.0], [1.0], ["a", "b"]), "same rows"),
        (lambda: mcnemar_exact(-1, 3), "negative"),
    ],
)
def test_what_has_no_answer_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_paired_difference_is_far_narrower_than_two_separate_means() -> None:
    generator = np.random.default_rng(11)
    difficulty = generator.normal(scale=5.0, size=300)
    a, b = difficulty + 0.2, difficulty + generator.normal(scale=0.1, size=300)
    difference = paired_bootstrap_difference(a, b, range(300))
    assert difference.value == pytest.approx(a.mean() - b.mean())
    assert 0.15 < difference.low < difference.value < difference.high < 0.25
    assert cluster_bootstrap(a, range(300)).high - a.mean() > 0.3


@pytest.mark.parametrize(
    ("first_only", "second_only", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 2 / 32),
        (1, 5, 2 * (1 + 6) / 64),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_by_hand(first_only: int, second_only: int, p: float) -> None:
    assert mcnemar_exact(first_only, second_only) == p


def test_mcnemar_agrees_with_every_sequence_of_coins() -> None:
    for total in range(1, 11):
        heads = [sum(coins) for coins in itertools.product((0, 1), repeat=total)]
        for first_only in range(total + 1):
            distance = abs(first_only - total / 2)
            as_extreme = sum(abs(count - total / 2) >= distance for count in heads)
            assert mcnemar_exact(first_only, total - first_only) == pytest.approx(as_extreme / 2**total)


def test_mcnemar_stays_positive_where_floats_end() -> None:
    assert 0.0 < mcnemar_exact(0, 5000) < 1e-300
    assert mcnemar_exact(10_000, 10_300) == pytest.approx(math.erfc(299 / math.sqrt(2 * 20_300)), rel=1e-3)


def test_an_interval_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Interval(0.5, 0.4, 0.6).value = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_a_row_of_weight_three_is_three_rows_of_its_cluster() -> None:
    """The draws are those of the clusters, so value and interval are the same to rounding."""
    values, weights, labels = [1.0, 4.0, 2.0, 8.0], [3, 1, 2, 1], ["a", "a", "b", "c"]
    repeated = [value for value, count in zip(values, weights, strict=True) for _ in range(count)]
    names = [label for label, count in zip(labels, weights, strict=True) for _ in range(count)]
    weighted, plain = cluster_bootstrap(values, labels, weights=weights), cluster_bootstrap(repeated, names)
    assert (weighted.value, weighted.low, weighted.high) == pytest.approx((plain.value, plain.low, plain.high))
    assert weighted.value == pytest.approx((3 + 4 + 4 + 8) / 7)


def test_a_paired_difference_takes_weights_too() -> None:
    found = paired_bootstrap_difference([3.0, 1.0], [1.0, 1.0], ["a", "b"], weights=[1.0, 3.0])
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.0, 2.0))
