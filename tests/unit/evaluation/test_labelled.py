"""The area under the curve of a reward on labelled responses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.evaluation.labelled import area, labelled_figures

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30)


@given(ROWS)
def test_the_area_is_the_share_of_couples_in_order(rows: list[tuple[int, bool]]) -> None:
    good = [value for value, label in rows if label]
    bad = [value for value, label in rows if not label]
    couples = [(one > other) + (one == other) / 2 for one in good for other in bad]
    found = area(np.array([value for value, _ in rows], float), np.array([label for _, label in rows], bool))
    assert found == (pytest.approx(sum(couples) / len(couples)) if couples else None)


def test_interval_holds_the_area_and_rows_of_one_question_go_together() -> None:
    coin = np.random.default_rng(0)
    labels = np.arange(200) % 2 == 0
    rewards = coin.normal(size=200) + labels
    alone = labelled_figures(rewards, labels, [str(row) for row in range(200)])
    low, high = alone["reward_auc_interval"]
    assert 0.6 < low < alone["reward_auc"] < high < 0.9  # of a unit's shift: Phi(1 / sqrt 2) = 0.76
    assert (alone["test_responses"], alone["test_desirable"]) == (200, 100)
    # the same rows eight times over are no more evidence, where their questions say so
    eight = labelled_figures(
        np.tile(rewards, 8), np.tile(labels, 8), [str(row) for _ in range(8) for row in range(200)]
    )
    assert eight["reward_auc"] == pytest.approx(alone["reward_auc"])
    assert eight["reward_auc_interval"] == pytest.approx([low, high])


def test_one_kind_alone_has_no_area() -> None:
    found = labelled_figures(np.array([0.5, 1.0]), np.array([True, True]), ["a", "b"])
    assert (found["reward_auc"], found["reward_auc_interval"]) == (None, None)
    assert (
        labelled_figures(np.array([1.0, 0.0]), np.array([True, False]), ["a", "a"])["reward_auc_interval"] is None
    )
