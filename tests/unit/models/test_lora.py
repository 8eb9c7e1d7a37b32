"""Adapters: what they train, that a fresh one changes nothing, and that a saved one is the policy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.tiny import (
    PAD,
    StopAfter,
    largest_difference,
    pair_model,
    pair_rows,
    plain_token_logps,
    random_groups,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_family,
    tiny_llama,
    write_rows,
)
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from penchant.config import build_config
from penchant.errors import Stopped, UsageError
from penchant.models.freeze import choose_trainable
from penchant.models.lora import Lora
from penchant.objective.pair_model import PairModel
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

GROUPS = random_groups(4, seed=2)
LORA = Lora(rank=4, alpha=8.0, seed=3)


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Phi3"])
def test_a_fresh_adapter_changes_nothing_and_is_all_that_trains(name: str) -> None:
    """Log-probabilities keep their bits; two factors of every linear layer of the decoder train, and no more."""
    model = tiny_family(name)
    linear = [m for m in model.model.layers.modules() if isinstance(m, nn.Linear)]  # type: ignore[union-attr]
    before = plain_token_logps(model, GROUPS).detach()
    total = sum(parameter.numel() for parameter in model.parameters())
    part = choose_trainable(model, None, LORA)
    assert torch.equal(plain_token_logps(model, GROUPS).detach(), before)
    assert part.trained == sum(4 * (layer.in_features + layer.out_features) for layer in linear)
    assert (part.total, part.frozen_layers, part.untied) == (total, 0, False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["lora", "rslora", "dora"])
def test_a_fresh_adapter_of_any_kind_is_the_reference_to_the_bit(variant: Any, precision: Any) -> None:
    """In the engine's own layout and precision: so the first loss is that of policy == reference."""

    def scored(model: PreTrainedModel, trunk_layers: int) -> torch.Tensor:
        ready = PairModel(model, trunk_layers=trunk_layers, prefix_sharing=True, precision=precision, pad_id=PAD)
        with torch.no_grad():
            return ready(ready.collate(GROUPS))

    model = tiny_llama()
    before = scored(model, 2)
    choose_trainable(model, 2, dataclasses.replace(LORA, variant=variant))
    assert torch.equal(scored(model, 2), before)


@pytest.mark.parametrize(("variant", "factor"), [("lora", 8.0 / 4), ("rslora", 8.0 / 2)])
def test_the_scale_of_a_variant(variant: Any, factor: float) -> None:
    """alpha / rank, or alpha over the rank's square root: the layer adds that much of the factors' product."""
    model = tiny_llama()
    layer: Any = model.get_submodule("model.layers.3.mlp.up_proj")
    start = layer.weight.detach().clone()
    adapters = choose_trainable(model, None, dataclasses.replace(LORA, variant=variant)).adapters
    adapted: Any = model.get_submodule("model.layers.3.mlp.up_proj")
    first, second = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    with torch.no_grad():
        second.normal_()
    expected = start + factor * second @ first
    adapters.merge_and_unload()
    merged: Any = model.get_submodule("model.layers.3.mlp.up_proj")
    assert torch.allclose(merged.weight, expected, atol=1e-6)


def test_dora_trains_a_length_for_every_row() -> None:
    """Beside the two factors of plain adapters, that is one number for each output of every linear layer."""
    plain = choose_trainable(tiny_llama(), None, LORA).trained
    model = tiny_llama()
    rows = sum(m.out_features for m in model.model.layers.modules() if isinstance(m, nn.Linear))
    assert choose_trainable(model, None, dataclasses.replace(LORA, variant="dora")).trained == plain + rows


@pytest.mark.parametrize(
    ("targets", "last_layers", "expected", "frozen"),
    [
        (("q_proj", "v_proj"), None, 4 * 4 * ((32 + 32) + (32 + 16)), 0),
        (("layers.[23].mlp.up_proj",), None, 2 * 4 * (32 + 64), 2),
        (("q_proj",), 1, 4 * (32 + 32), 3),
    ],
)
def test_adapters_go_where_the_targets_say(
    targets: tuple[str, ...], last_layers: int | None, expected: int, frozen: int
) -> None:
    """And nowhere else; layers below the lowest one are constant."""
    model = tiny_llama()
    part = choose_trainable(model, last_layers, dataclasses.replace(LORA, targets=targets))
    assert (part.trained, part.frozen_layers) == (expected, frozen)


@pytest.mark.parametrize("target", ["q_prj", "lm_head", "embed_tokens", "layers.0.mlp"])
def test_targets_that_match_nothing_are_an_error(target: str) -> None:
    """The head and the embedding are none of the decoder's linear layers, nor are layers that stay frozen."""
    with pytest.raises(UsageError, match=rf'model\.lora_targets: "{target}" names no linear layer'):
        choose_trainable(tiny_llama(), 1, dataclasses.replace(LORA, targets=("up_proj", target)))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
@pytest.mark.parametrize("variant", ["rslora", "dora"])
def test_a_run_with_another_kind_of_adapter(tmp_path: Path, data: Path, variant: str) -> None:
    """It begins at ln 2, learns, and what it saves is the start plus the adapter."""
    source = save_tiny(tmp_path / "start")
    model = {"lora_rank": 4, "lora_variant": variant, "lora_targets": ["mlp"]}
    config = tiny_config(source, model=model, train={"max_steps": 4, "learning_rate": 1e-2})
    run = train_run(config, data, tmp_path / "run").run
    losses = [line["loss"] for line in step_metrics(run)]
    assert losses[0] == pytest.approx(0.6931472, abs=1e-6)
    assert losses[-1] < 0.65
    merged = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32).eval()
    start = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    adapted = PeftModel.from_pretrained(start, str(run / "adapter")).eval()
    found = plain_token_logps(merged, GROUPS).detach()
    assert largest_difference(found, plain_token_logps(adapted, GROUPS).detach()) <= 1e-5  # type: ignore[arg-type]


def test_the_first_factor_is_a_function_of_the_seed() -> None:
    """And drawing it leaves the run's own random numbers alone."""

    def factors(seed: int) -> list[torch.Tensor]:
        model = tiny_llama()
        torch.manual_seed(99)
        expected = torch.rand(1)
        torch.manual_seed(99)
        choose_trainable(model, None, Lora(4, 8.0, seed))
        assert torch.equal(torch.rand(1), expected)
        return [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]

    assert all(torch.equal(one, other) for one, other in zip(factors(1), factors(1), strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(factors(1), factors(2), strict=True))


def test_adapters_in_the_last_layers_leave_a_trunk() -> None:
    """The layers below are as constant as with whole layers trained, and may be run once."""
    model = tiny_llama()
    part = choose_trainable(model, 1, LORA)
    assert part.frozen_layers == 3
    split = pair_model(model, trunk_layers=3)
    expected = plain_token_logps(model, GROUPS).detach()
    assert largest_difference(split(split.collate(GROUPS)).detach(), expected) <= 1e-5


def test_adapters_need_a_linear_layer() -> None:
    """None of no layers: an error before anything is trained."""
    with pytest.raises(UsageError, match="no linear layer"):
        choose_trainable(tiny_llama(), 0, LORA)


def test_alpha_without_a_rank_is_refused() -> None:
    """It would be silently ignored."""
    with pytest.raises(UsageError, match="lora_alpha is not used"):
        build_config({"model": {"lora_alpha": 8.0}})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(12))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
def test_the_saved_policy_is_the_start_plus_the_saved_adapter(tmp_path: Path, data: Path) -> None:
    """The merged model by plain transformers, and the adapter by peft on the start: the same log-probabilities."""
    source = save_tiny(tmp_path / "start")
    config = tiny_config(source, model={"lora_rank": 4}, train={"max_steps": 4, "learning_rate": 1e-2})
    run = train_run(config, data, tmp_path / "run").run
    losses = [line["loss"] for line in step_metrics(run)]
    assert losses[0] == pytest.approx(0.6931472, abs=1e-6)
    assert losses[-1] < 0.6
    merged = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32).eval()
    start = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    before = plain_token_logps(start, GROUPS).detach()
    adapted = PeftModel.from_pretrained(start, str(run / "adapter")).eval()
    found = plain_token_logps(merged, GROUPS).detach()
    assert largest_difference(found, plain_token_logps(adapted, GROUPS).detach()) <= 1e-5  # type: ignore[arg-type]
    assert largest_difference(found, before) > 1e-3
    assert not any("lora" in name for name in merged.state_dict())


def test_adapters_resume_bit_for_bit(tmp_path: Path, data: Path) -> None:
    """Stopped after two steps and resumed: the same adapter and the same metrics."""
    source = save_tiny(tmp_path / "start")
    config = tiny_config(source, model={"lora_rank": 4, "last_layers": 2}, train={"max_steps": 4})
    whole = train_run(config, data, tmp_path / "whole").run
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, tmp_path / "halved", stopper=stopper, reporter=StopAfter(stopper, 2))
    halved = train_run(config, data, tmp_path / "halved", resume=True).run
    assert step_metrics(halved) == step_metrics(whole)
    name = "adapter_model.safetensors"
    assert (halved / "adapter" / name).read_bytes() == (whole / "adapter" / name).read_bytes()
