"""Twenty steps of every loss, number by number, against trajectories committed with their circumstances."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.loss_trajectories import (
    COLUMNS,
    GOLDEN,
    MODES,
    NAMES,
    STEPS,
    circumstances,
    configured,
    course,
    make_start,
)

from penchant.objective.loss_table import loss_at_reference

GOLD: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
# Of what a column moves by. Another layout of the same arithmetic (padded rows of one pair, no pruning) moved
# numbers by 1e-6 of that as a rule and by 2e-5 at most; other kernels should do no worse than ten times that.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_start(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.endswith("lora") else name for name in NAMES]
)
def test_the_trajectory_is_the_committed_one(name: str, start: Path, tmp_path: Path) -> None:
    found, golden = course(name, start, tmp_path), GOLD["runs"][name]
    note = f"committed under {GOLD['circumstances']}, here {circumstances()}"
    assert found.keys() == golden.keys()
    for column, values in golden.items():
        assert len(found[column]) == STEPS
        allowed = TOLERANCE * (max(values) - min(values))
        assert found[column] == pytest.approx(values, rel=0, abs=allowed), f"{name}, {column}; {note}"


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_trajectory_begins_at_the_reference_and_moves(name: str) -> None:
    """The first loss is the known one where there is one, and no column stands still."""
    golden = GOLD["runs"][name]
    known = loss_at_reference(configured(name, Path("start")).objective)
    if known is not None:
        assert golden["loss"][0] == pytest.approx(known, rel=1e-5)
        assert golden["rewards/margins"][0] == pytest.approx(0, abs=1e-5)
    for column, values in golden.items():
        assert max(values) - min(values) > 1e-3 * max(map(abs, values)), column


@pytest.mark.parametrize("mode", MODES)
def test_no_two_losses_have_one_trajectory(mode: str) -> None:
    """Or the trajectory would not show which of them was run: every option has come to matter on the way."""
    norms = {name: run["grad_norm"] for name, run in GOLD["runs"].items() if name.endswith(mode)}
    for (one, left), (other, right) in itertools.combinations(norms.items(), 2):
        apart = max(abs(a - b) for a, b in zip(left, right, strict=True))
        assert apart > 10 * TOLERANCE * (max(left) - min(left)), f"{one}; {other}"


def test_every_loss_is_committed_in_both_modes() -> None:
    assert GOLD["runs"].keys() == set(NAMES)
    assert all(set(run) <= set(COLUMNS) and {"loss", "grad_norm"} <= set(run) for run in GOLD["runs"].values())
    assert [name for name, run in GOLD["runs"].items() if "rewards/margins" not in run] == [
        "sft, full",
        "sft, lora",
    ]
