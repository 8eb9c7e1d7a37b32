"""Twelve steps of training, number by number, against a trajectory that was committed with its circumstances.

To accept a changed trajectory, state the reason:

    PENCHANT_REWRITE_GOLDEN="AdamW replaced by ..." pytest tests/golden

That rewrites `trajectory.json` with the reason in it, and fails: a rewriting run proves nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from pathlib import Path

import pytest
from tests.tiny import pair_rows, save_tiny, step_metrics, tiny_config, tiny_llama, write_rows

from penchant.workflow.train import train_run

GOLDEN = Path(__file__).with_name("trajectory.json")
REWRITE = "PENCHANT_REWRITE_GOLDEN"
STEPS = 12
COLUMNS = ("loss", "grad_norm", "rewards/margins")
TOLERANCE, BIAS = 1e-4, 2e-5


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The metrics of the run."""
    folder = tmp_path_factory.mktemp("golden")
    config = tiny_config(
        save_tiny(folder / "start", tiny_llama(seed=7)),
        train={"learning_rate": 3e-4, "batch_pairs": 8, "epochs": 10.0, "max_steps": STEPS, "seed": 1},
    )
    data = write_rows(folder / "pairs.jsonl", pair_rows(24, seed=2))
    return step_metrics(train_run(config, data, folder / "run").run)


def circumstances() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers")}
    return {**versions, "machine": f"{platform.machine()} cpu, fp32, one thread"}


def test_the_trajectory_is_the_committed_one(course: list[dict[str, float]]) -> None:
    """Every number within 1e-4, and the differences of a column without a common direction."""
    if reason := os.environ.get(REWRITE):
        columns = {name: [line[name] for line in course] for name in COLUMNS}
        golden = {"reason": reason, "circumstances": circumstances(), "columns": columns}
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
        pytest.fail(f"{GOLDEN.name} was rewritten; run again without {REWRITE}")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    note = f"committed under {golden['circumstances']}, here {circumstances()}"
    assert len(course) == STEPS
    for name in COLUMNS:
        residuals = [line[name] - value for line, value in zip(course, golden["columns"][name], strict=True)]
        assert max(map(abs, residuals)) <= TOLERANCE, f"{name}: {residuals}; {note}"
        assert abs(sum(residuals)) / STEPS <= BIAS, f"{name} is off in one direction: {residuals}; {note}"


def test_the_first_step_is_the_reference(course: list[dict[str, float]]) -> None:
    """Before the first update policy and reference are one model: ln 2 to 1e-6, no reward on either side."""
    assert course[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert course[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert course[0]["rewards/rejected"] == pytest.approx(0, abs=1e-5)


def test_the_preference_is_learnt(course: list[dict[str, float]]) -> None:
    """At the end the chosen responses win by a margin, and the loss is well below where it began."""
    last = course[-1]
    assert last["rewards/margins"] > 0.1
    assert last["rewards/accuracies"] > 0.8
    assert last["loss"] < course[0]["loss"] - 0.05
    assert last["rewards/margins"] == pytest.approx(last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5)
