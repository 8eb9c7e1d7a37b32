"""Twenty steps of the recipes on tiny random models of the architectures that they are for, as `checked` says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import pair_rows, save_tiny, tiny_family, tiny_llama, write_rows
from transformers import PreTrainedModel

from penchant.recipes import load_recipe
from penchant.recipes.stages import load_stages
from penchant.workflow.align import align_run
from penchant.workflow.train import TrainResult, train_run

# peft asks a model for an attribute that transformers has renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

STEPS = 20
TINY = (
    "train.batch_pairs=2",
    f"train.max_steps={STEPS}",
    "train.checkpoint_every=null",
    "engine.device=cpu",
    "engine.precision=fp32",
    "engine.threads=1",
)


def check(result: TrainResult | None, start: Path, *, preferences: bool) -> None:
    """It went through, began at the known value, and moved the weights."""
    assert result is not None
    assert result.steps == STEPS
    assert math.isfinite(result.last["loss"])
    if preferences:
        assert result.first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    before, after = (load_file(folder / "model.safetensors") for folder in (start, result.run / "model"))
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items())


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(40))


@pytest.mark.parametrize(
    ("recipe", "model"),
    [
        ("smollm2-strong-hh", lambda: tiny_llama(layers=6, tied=True)),
        ("smollm2-sft", lambda: tiny_llama(layers=2, tied=True)),
        ("qwen3-ultrafeedback", lambda: tiny_family("Qwen3", layers=2, tied=True)),
        ("zephyr-lora", lambda: tiny_family("Mistral", layers=2, sliding_window=4096)),
    ],
)
def test_a_recipe_runs_twenty_steps_on_its_architecture(
    recipe: str, model: Callable[[], PreTrainedModel], pairs: Path, tmp_path: Path
) -> None:
    start = save_tiny(tmp_path / "start", model())
    config = load_recipe(recipe, [f"model.path={start}", *TINY])
    result = train_run(config, pairs, tmp_path / "run")
    check(result, start, preferences=config.objective.loss != "sft")


@pytest.mark.parametrize(
    ("recipe", "model", "template"),
    [
        pytest.param("paper-hh", lambda: tiny_llama(layers=2, tied=True), False, marks=pytest.mark.slow),
        pytest.param("smollm2-sft-dpo", lambda: tiny_llama(layers=6, tied=True), True, marks=pytest.mark.slow),
    ],
)
def test_a_recipe_of_stages_runs_twenty_steps_of_each(
    recipe: str, model: Callable[[], PreTrainedModel], template: bool, pairs: Path, tmp_path: Path
) -> None:
    start = save_tiny(tmp_path / "start", model(), template=template)
    stages = load_stages(recipe, [f"model.path={start}", *TINY])
    sft, dpo = align_run(stages, pairs, tmp_path / "out")
    check(sft.result, start, preferences=False)
    check(dpo.result, sft.run / "model", preferences=True)
