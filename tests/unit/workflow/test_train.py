"""What a training run reports about itself."""

from __future__ import annotations

import gc
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import (
    StopAfter,
    loaded,
    pair_rows,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.errors import Stopped
from penchant.models.freeze import choose_trainable
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import describe_part, train_run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "start", tiny_llama(layers=2, tied=True))


def test_the_trained_part_in_one_line() -> None:
    whole = describe_part(choose_trainable(loaded(tiny_llama(layers=4)).model, None))
    assert whole.endswith("(100%)")
    upper = describe_part(choose_trainable(loaded(tiny_llama(layers=4, tied=True)).model, 1))
    assert "3 layers below are frozen" in upper
    assert "the head has weights of its own now" in upper
    tied = describe_part(choose_trainable(loaded(tiny_llama(layers=4, tied=True)).model, 1, keep_tied=True))
    assert "the embedding is trained too and no layer is constant" in tied
    assert "weights of its own" not in tied
    assert "constant" not in upper


def tensors() -> int:
    gc.collect()
    return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())


@pytest.mark.parametrize(
    "options",
    [
        {"model": {"last_layers": 1}},
        {"model": {"lora_rank": 2}},
        {"objective": {"reference_every": 1}},
    ],
    ids=["layers", "lora", "moving"],
)
def test_a_run_leaves_no_tensor_behind(tmp_path: Path, source: Path, options: dict[str, Any]) -> None:
    """A sweep or a loop of rounds would grow by each run's weights; what a module keeps for itself stays one."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    counts = []
    for name in ("first", "second", "third"):
        train_run(tiny_config(source, **options, train={"max_steps": 2}), data, tmp_path / name)
        counts.append(tensors())
    assert counts[2] == counts[1] <= counts[0]


def test_facts_of_a_run(tmp_path: Path, source: Path) -> None:
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    config = tiny_config(source, model={"last_layers": 1}, train={"max_steps": 3})
    result = train_run(config, data, tmp_path / "run")
    facts = json.loads((result.run / "eval" / "training.json").read_text(encoding="utf-8"))
    assert (facts["train_pairs"], facts["steps"], facts["frozen_layers"]) == (8, 3, 1)
    assert (facts["prefix_sharing"], facts["precision"]) == (True, "fp32")
    assert 0 < facts["trained_parameters"] < facts["parameters"]
    assert (result.first["step"], result.last["step"]) == (1, 3)
    card = (result.run / "model" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "steps of 4 pairs, learning rate 0.001, seed 0" in card


def test_a_resumed_run_reports_all_of_its_steps(tmp_path: Path, source: Path) -> None:
    """First step and seconds are those of the whole run, not of what was left of it."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    config = tiny_config(source, train={"max_steps": 4})
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, tmp_path / "run", stopper=stopper, reporter=StopAfter(stopper, 2))
    result = train_run(config, data, tmp_path / "run", resume=True)
    assert (result.first["step"], result.last["step"], result.steps) == (1, 4, 4)
    assert [line["step"] for line in step_metrics(result.run)] == [1, 2, 3, 4]
    lines = (result.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert result.train_seconds >= sum(json.loads(line)["seconds"] for line in lines)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_runs_of_any_depth_begin_at_ln_2_whatever_others_left_in_the_stores(
    tmp_path: Path, precision: str
) -> None:
    start = save_tiny(tmp_path / "start", tiny_llama())
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    for depth in (1, 2, None):
        config = tiny_config(
            start,
            model={"path": str(start), "last_layers": depth},
            train={"batch_pairs": 4, "max_steps": 1, "learning_rate": 1e-3},
            engine={"precision": precision},
        )
        train_run(config, data, tmp_path / f"run-{depth}")
        (first,) = step_metrics(tmp_path / f"run-{depth}")
        assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
