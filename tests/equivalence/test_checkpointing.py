"""A step with trained layers computed twice against one that keeps what they gave: equal to the last bit."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import PAD, random_groups, tiny_family
from transformers import PreTrainedModel

from penchant.config import ObjectiveConfig
from penchant.models.freeze import choose_trainable
from penchant.models.lora import Lora
from penchant.models.precision import Precision, compute_in
from penchant.objective.head import PairLosses
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import pair_objective
from penchant.objective.pair_facts import PairFacts
from penchant.objective.pair_model import PairModel

GROUPS = random_groups(5, seed=8)
PARTS: dict[str, tuple[int | None, Lora | None]] = {
    "full": (None, None),
    "last layers": (2, None),
    "LoRA": (None, Lora(rank=4, alpha=8.0, seed=3)),
    "LoRA in the last layers": (2, Lora(rank=4, alpha=8.0, seed=3)),
}


def step(
    name: str, part: str, precision: Precision, *, checkpointing: bool, prefix_sharing: bool = True
) -> tuple[PairLosses, dict[str, torch.Tensor], PairModel]:
    """Losses and gradients of one micro-batch of a model made anew."""
    model = tiny_family(name, layers=4)
    last_layers, lora = PARTS[part]
    frozen = choose_trainable(model, last_layers, lora).frozen_layers
    _stir_adapters(model)
    scorer = PairModel(
        model,
        trunk_layers=frozen,
        prefix_sharing=prefix_sharing,
        precision=precision,
        pad_id=PAD,
        checkpointing=checkpointing,
    )
    nothing = PairLogps(*torch.full((2, len(GROUPS)), -9.0), *torch.ones(2, len(GROUPS)))
    objective = pair_objective(ObjectiveConfig(), nothing, PairFacts(torch.linspace(0.1, 0.3, len(GROUPS))))  # type: ignore[call-arg]
    result = scorer.losses(scorer.collate(GROUPS), objective)
    with compute_in(precision, "cpu"):
        result.total.backward()
    return result, {key: p.grad for key, p in model.named_parameters() if p.grad is not None}, scorer


def _stir_adapters(model: PreTrainedModel) -> None:
    """A fresh adapter's second factor is zero, and with it the gradient of the first."""
    torch.manual_seed(6)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)


def assert_equal_bits(name: str, part: str, precision: Precision, *, prefix_sharing: bool = True) -> None:
    kept, again = (
        step(name, part, precision, checkpointing=checkpointing, prefix_sharing=prefix_sharing)
        for checkpointing in (False, True)
    )
    assert torch.equal(again[0].losses, kept[0].losses)
    assert again[1].keys() == kept[1].keys()
    assert len(kept[1]) > 3
    for key, gradient in kept[1].items():
        assert torch.equal(again[1][key], gradient), key
        assert gradient.any(), key


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Phi3", "Olmo2", "Mixtral"])
def test_layers_computed_twice_change_no_bit(name: str, precision: Precision, part: str) -> None:
    assert_equal_bits(name, part, precision)


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Gemma3"])
def test_neither_do_they_in_separate_sequences(name: str) -> None:
    """The way of models that cannot share a prompt, through their own forward."""
    assert_equal_bits(name, "last layers", "bf16", prefix_sharing=False)


@pytest.mark.parametrize("prefix_sharing", [True, False])
def test_only_trained_layers_are_computed_twice(prefix_sharing: bool) -> None:
    """The frozen one once; of the pruned last one each half once; without gradients nothing is computed again."""
    calls = [0] * 4
    model = tiny_family("Llama", layers=4)
    frozen = choose_trainable(model, 3).frozen_layers
    for number, layer in enumerate(model.model.layers):  # type: ignore[union-attr,arg-type]

        def count(*_: object, at: int = number) -> None:
            calls[at] += 1

        layer.input_layernorm.register_forward_pre_hook(count)
    scorer = PairModel(
        model,
        trunk_layers=frozen,
        prefix_sharing=prefix_sharing,
        precision="fp32",
        pad_id=PAD,
        checkpointing=True,
    )
    scorer(scorer.collate(GROUPS)).sum().backward()
    assert calls == [1, 2, 2, 2]
    calls[:] = [0] * 4
    with torch.no_grad():
        scorer(scorer.collate(GROUPS))
    assert calls == [1, 1, 1, 2 if prefix_sharing else 1]
