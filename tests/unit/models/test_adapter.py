"""An adapter as the start is its base plus itself; what does not fit is refused and never half loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.tiny import (
    largest_difference,
    pair_rows,
    plain_token_logps,
    random_groups,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    tiny_tokenizer,
    write_rows,
)
from transformers import AutoModelForCausalLM, PreTrainedModel

from penchant.errors import ModelError, UsageError
from penchant.models import adapter
from penchant.models.freeze import is_tied
from penchant.models.load import load_model, resolve_model
from penchant.workflow.train import train_run

# asked for by peft
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

GROUPS = random_groups(3, seed=4)


def make_adapter(base: Path, target: Path, **changes: Any) -> PreTrainedModel:
    """Save an adapter with random factors and return its base with it, unmerged."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **changes}
    adapted: Any = get_peft_model(model, LoraConfig(**settings))
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapted.save_pretrained(target)
    return adapted.eval()


def logps(model: Any) -> torch.Tensor:
    return plain_token_logps(model, GROUPS).detach()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base", tiny_llama(tied=True))


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_the_model_is_base_plus_adapter(tmp_path: Path, base: Path, changes: dict[str, Any]) -> None:
    """Merged: nothing of the adapter stays apart, and every parameter can be trained."""
    expected = make_adapter(base, tmp_path / "a", **changes)
    found = load_model(str(tmp_path / "a"))
    assert largest_difference(logps(found.model), logps(expected)) <= 1e-5
    assert largest_difference(logps(found.model), logps(load_model(str(base)).model)) > 1e-3
    assert found.model.state_dict().keys() == tiny_llama(tied=True).state_dict().keys()
    assert all(parameter.requires_grad for parameter in found.model.parameters())
    assert is_tied(found.model)
    assert found.path == found.model.name_or_path == str(tmp_path / "a")
    assert resolve_model(str(tmp_path / "a")) == str(base)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # while it is made
def test_a_head_that_the_adapter_brings_is_no_longer_tied(tmp_path: Path, base: Path) -> None:
    """And what is saved says so."""
    expected = make_adapter(base, tmp_path / "a", modules_to_save=["lm_head"])
    found = load_model(str(tmp_path / "a")).model
    assert largest_difference(logps(found), logps(expected)) <= 1e-5
    assert not is_tied(found)
    found.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert torch.equal(logps(again), logps(found))


def test_the_adapters_own_tokenizer_comes_first(tmp_path: Path, base: Path) -> None:
    """Its chat template is what it was trained with."""
    make_adapter(base, tmp_path / "a")
    assert load_model(str(tmp_path / "a")).chat.has_template
    tiny_tokenizer(template=False).save_pretrained(tmp_path / "a")
    assert not load_model(str(tmp_path / "a")).chat.has_template


def test_the_reference_is_base_plus_adapter(tmp_path: Path, base: Path) -> None:
    """A run from an adapter starts at ln 2 from there; its own adapter lies on top of that, not of the base."""
    make_adapter(base, tmp_path / "a")
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(12))
    config = tiny_config(tmp_path / "a", model={"lora_rank": 4}, train={"max_steps": 3, "learning_rate": 1e-2})
    run = train_run(config, data, tmp_path / "run").run
    lines = step_metrics(run)
    assert lines[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    merged = tmp_path / "merged"
    start = load_model(str(tmp_path / "a"))
    start.model.save_pretrained(merged)
    start.tokenizer.save_pretrained(merged)
    same = tiny_config(merged, model={"lora_rank": 4}, train={"max_steps": 3, "learning_rate": 1e-2})
    other = train_run(same, data, tmp_path / "other").run
    assert step_metrics(other) == lines
    assert json.loads((run / "adapter" / "adapter_config.json").read_text("utf-8"))[
        "base_model_name_or_path"
    ] == str(tmp_path / "a")
    stacked = logps(load_model(str(run / "adapter")).model)
    assert largest_difference(stacked, logps(load_model(str(run / "model")).model)) <= 1e-5


def broken(tmp_path: Path, base: Path, change: Any) -> str:
    make_adapter(base, tmp_path / "a")
    change(tmp_path / "a")
    return str(tmp_path / "a")


def edited(**values: Any) -> Any:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps(config | values), encoding="utf-8")

    return change


def without_a_tensor(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[min(tensors)]
    save_file(tensors, file)


def with_another_tensor(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(load_file(file) | {"base_model.model.model.layers.9.mlp.lora_A.weight": torch.ones(1)}, file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_a_tensor, "does not fit its base: .* is missing"),
        (with_another_tensor, "does not fit its base: .* has no place"),
        (edited(r=8), "does not fit its base"),
        (edited(peft_type="IA3"), "not of the kind LoRA"),
        (edited(base_model_name_or_path=None), "does not say which model"),
        (edited(base_model_name_or_path="/no/such/place"), r"base of this adapter cannot be had .*/no/such/place"),
        (edited(base_model_name_or_path="w.pth"), "base of this adapter cannot be had"),
        (lambda folder: edited(base_model_name_or_path=str(folder))(folder), "its own base"),
        (lambda folder: (folder / "adapter_config.json").write_text("{", "utf-8"), "is not JSON"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), r"has no adapter_model\.safetensors"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"torn"), "does not fit its base"),
        (lambda folder: tiny_llama().save_pretrained(folder), "holds a whole model .* and an adapter"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, base: Path, change: Any, words: str) -> None:
    """In words, and never by loading what does fit."""
    with pytest.raises(ModelError, match=words):
        load_model(broken(tmp_path, base, change))


def test_a_path_is_never_asked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that looks like an id, with one slash."""

    def ask(name: str) -> str:
        raise AssertionError(f"{name} was asked for")

    monkeypatch.setattr(adapter, "find_adapter_config_file", ask)
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "some" / "model")
    (tmp_path / "some" / "file.txt").write_text("x", encoding="utf-8")
    for name in (
        "bundled",
        "some/model",
        "some/file.txt",
        "gone/model.gguf",
        "gone/weights.pth",
        "./a",
        "/a",
        "a/b/c",
    ):
        assert adapter.adapter_base(name) is None
    with pytest.raises(AssertionError, match="someone/adapter was asked for"):
        adapter.adapter_base("someone/adapter")


def test_an_adapter_on_the_hub_is_one_too(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a Hub that cannot be reached is left to whoever reads the model to report."""
    make_adapter(base, tmp_path / "a")
    monkeypatch.setattr(adapter, "find_adapter_config_file", lambda _: str(tmp_path / "a" / "adapter_config.json"))
    assert adapter.adapter_base("someone/adapter") == str(base)

    def unreachable(name: str) -> str:
        raise OSError(name)

    monkeypatch.setattr(adapter, "find_adapter_config_file", unreachable)
    assert adapter.adapter_base("someone/adapter") is None


def test_no_architecture_goes_with_an_adapter(tmp_path: Path, base: Path) -> None:
    make_adapter(base, tmp_path / "a")
    with pytest.raises(UsageError, match="only a state dict"):
        load_model(str(tmp_path / "a"), architecture=str(base))
