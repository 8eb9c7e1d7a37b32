"""A state dict on its architecture is the model directory that it was made from, bit for bit, trained too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import (
    END,
    pair_model,
    pair_rows,
    random_groups,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)
from transformers import AutoTokenizer

from penchant.models.digest import weights_digest
from penchant.models.load import load_model
from penchant.workflow.plan import plan_run
from penchant.workflow.train import train_run

GROUPS = random_groups(4, seed=3)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A trained model's directory."""
    return save_tiny(tmp_path / "trained", tiny_llama(layers=3, tied=True, seed=5))


@pytest.fixture
def architecture(tmp_path: Path) -> Path:
    """Other weights of the same kind, with the tokenizer, and with a stop token that its configuration lacks."""
    folder = save_tiny(tmp_path / "architecture", tiny_llama(layers=3, tied=True))
    generation = folder / "generation_config.json"
    generation.write_text(
        generation.read_text("utf-8").replace(f'"eos_token_id": {END}', '"eos_token_id": [2, 77]')
    )
    return folder


@pytest.fixture
def file(tmp_path: Path, plain: Path) -> Path:
    """The trained model's weights alone, as a training loop under data parallelism leaves them."""
    tensors = {f"module.{key}": value for key, value in load_file(plain / "model.safetensors").items()}
    torch.save({"epoch": 1, "state_dict": tensors}, tmp_path / "full_finetuned.pth")
    return tmp_path / "full_finetuned.pth"


def test_the_weights_are_the_files_and_the_rest_the_architectures(
    plain: Path, architecture: Path, file: Path
) -> None:
    found, expected = load_model(str(file), architecture=str(architecture)), load_model(str(plain))
    assert weights_digest(found.model) == weights_digest(expected.model)
    scores = [ready(ready.collate(GROUPS)) for ready in map(pair_model, (found.model, expected.model))]
    assert torch.equal(*scores)
    assert not found.model.training
    assert found.stop_ids == (END, 77)
    assert found.chat.has_template
    assert found.path == str(file)


@pytest.mark.parametrize("last_layers", [None, 1])
def test_a_run_from_it_is_the_run_from_the_directory(
    tmp_path: Path, plain: Path, architecture: Path, file: Path, last_layers: int | None
) -> None:
    """The same metrics, the same saved weights, and a tokenizer beside them."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    model = {"last_layers": last_layers}
    one = tiny_config(plain, model=model, train={"max_steps": 3})
    other = tiny_config(file, model={**model, "architecture": str(architecture)}, train={"max_steps": 3})
    runs = [train_run(config, data, tmp_path / f"run-{i}").run for i, config in enumerate((one, other))]
    assert step_metrics(runs[0]) == step_metrics(runs[1])
    name = "model.safetensors"
    assert (runs[0] / "model" / name).read_bytes() == (runs[1] / "model" / name).read_bytes()
    assert AutoTokenizer.from_pretrained(runs[1] / "model").chat_template


def test_it_can_be_planned(tmp_path: Path, architecture: Path, file: Path) -> None:
    """From the architecture alone; also a choice by names of layers that a thin model does not have."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    model = {"architecture": str(architecture), "train": ["layers.2.mlp", "norm"]}
    plan = plan_run(tiny_config(file, model=model, train={"max_steps": 2}), data=data)
    assert (plan.sizes.trained, plan.sizes.frozen_layers) == (3 * 32 * 64 + 32, 2)
