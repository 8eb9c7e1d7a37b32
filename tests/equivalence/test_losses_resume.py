"""Every loss with adapters, through a recipe: twenty steps, and the same bytes when stopped and resumed.

All weights trained: test_losses.py. A reference that moves: test_moving_reference.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny import StopAfter, pair_rows, save_tiny, step_metrics, tiny_llama, write_rows

from penchant.config import Config, load_config
from penchant.errors import Stopped
from penchant.objective.loss_table import LOSSES
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

STEPS, STOP = 20, 7
USUAL = ("aot",)  # a loss of a step; that of a pair resumes in test_losses.py, and all others take minutes
RECIPE: dict[str, Any] = {
    "data": {"max_tokens": 96},
    "train": {"learning_rate": 1e-2, "batch_pairs": 4, "epochs": 9.0, "max_steps": STEPS},
    "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
}


def configured(folder: Path, loss: str, model: dict[str, Any]) -> Config:
    """As the command reads a recipe and what is set beside it."""
    start = save_tiny(folder / "start", tiny_llama(layers=2))
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"model": {"path": str(start), **model}, **RECIPE}), encoding="utf-8")
    return load_config(recipe, [f"objective.loss={loss}"])


def written(run: Path) -> dict[str, bytes]:
    """The weights that a run saved: its model, and the adapters on their own."""
    parts = [path for name in ("model", "adapter") if (run / name).is_dir() for path in (run / name).iterdir()]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in parts}


def assert_resumes(config: Config, data: Path, folder: Path) -> None:
    """A run, and one that was stopped and resumed, have the same lines and files; and something was learnt."""
    whole = train_run(config, data, folder / "whole").run
    lines = step_metrics(whole)
    assert len(lines) == STEPS
    assert lines[0]["loss"] != lines[-1]["loss"]
    assert lines[0]["grad_norm"] > 0
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, folder / "halved", stopper=stopper, reporter=StopAfter(stopper, STOP))
    assert len(step_metrics(folder / "halved")) == STOP
    train_run(config, data, folder / "halved", resume=True)
    assert step_metrics(folder / "halved") == lines
    assert written(folder / "halved") == written(whole)


@pytest.mark.parametrize(
    "loss", [loss if loss in USUAL else pytest.param(loss, marks=pytest.mark.slow) for loss in LOSSES]
)
def test_adapters_resume_bit_for_bit(loss: str, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(12))
    config = configured(tmp_path, loss, {"lora_rank": 2})
    assert_resumes(config, data, tmp_path)
    files = written(tmp_path / "whole")
    assert any(name.startswith("adapter/") and name.endswith(".safetensors") for name in files)
    assert any(name.startswith("model/") and name.endswith(".safetensors") for name in files)


@pytest.mark.parametrize(
    "model", [{}, pytest.param({"lora_rank": 2}, marks=pytest.mark.slow)], ids=["full", "lora"]
)
def test_labelled_responses_resume_bit_for_bit(model: dict[str, Any], tmp_path: Path) -> None:
    """KTO on rows of one response and a label."""
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen" if place % 3 else "rejected"], "label": place % 3 > 0}
        for place, row in enumerate(pair_rows(12))
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    assert_resumes(configured(tmp_path, "kto", model), data, tmp_path)


def test_the_usual_ones_are_losses() -> None:
    """Or a misspelt one would leave all of them to `make slow`."""
    assert set(USUAL) < set(LOSSES)
