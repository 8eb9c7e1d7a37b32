"""Sizes from the meta device are those of the real model, and what a forward pass keeps is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import FAMILIES, save_tiny, tiny_family, tiny_llama

from penchant.errors import ModelError, UsageError
from penchant.models.activation_memory import bytes_kept
from penchant.models.freeze import choose_trainable, decoder, head, layers
from penchant.models.lora import Lora
from penchant.models.sizes import (
    linear_widths,
    model_sizes,
    random_model,
    read_model_config,
    thin_config,
)

# peft asks a model for an attribute that transformers has renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

PARTS = [(None, None), (1, None), (0, None), (None, Lora(2, 4, 0)), (1, Lora(2, 4, 0))]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("last_layers", "lora"), PARTS)
def test_sizes_are_those_of_the_real_model(tied: bool, last_layers: int | None, lora: Lora | None) -> None:
    model = tiny_llama(layers=3, tied=tied)
    sizes = model_sizes(model.config, last_layers, lora)
    part = choose_trainable(model, last_layers, lora)
    assert sizes.total == sum(parameter.numel() for parameter in model.parameters())
    assert (sizes.trained, sizes.frozen_layers, sizes.untied) == (part.trained, part.frozen_layers, part.untied)
    assert sizes.layer == sum(parameter.numel() for parameter in layers(decoder(model))[-1].parameters())
    assert (sizes.vocabulary, sizes.width) == tuple(head(model).weight.shape)
    assert sizes.head_trained == head(model).weight.requires_grad
    embedding = model.get_input_embeddings().weight
    assert sizes.embedding_trained == embedding.requires_grad
    assert sizes.own_parameters == (sizes.head if tied and lora is None and last_layers is not None else 0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "choice",
    [
        {"patterns": ("layers.1.mlp", "norm")},
        {"patterns": ("lm_head",)},
        {"lora": Lora(2, 4, 0, "dora", ("q_proj", "layers.2.mlp"))},
        {"lora": Lora(2, 4, 0, "rslora")},
    ],
)
def test_sizes_of_other_choices_are_those_of_the_real_model(tied: bool, choice: dict[str, Any]) -> None:
    model = tiny_llama(layers=3, tied=tied)
    sizes = model_sizes(model.config, None, **choice)
    part = choose_trainable(model, None, **choice)
    assert sizes.total == sum(parameter.numel() for parameter in model.parameters())
    assert (sizes.trained, sizes.frozen_layers, sizes.untied) == (part.trained, part.frozen_layers, part.untied)


def test_sizes_of_a_kept_tie() -> None:
    config = tiny_llama(layers=3, tied=True).config
    sizes, untied = model_sizes(config, 1, keep_tied=True), model_sizes(config, 1)
    assert (sizes.frozen_layers, sizes.untied, sizes.embedding_trained, sizes.own_parameters) == (
        0,
        False,
        True,
        0,
    )
    assert untied.total - sizes.total == sizes.head
    with pytest.raises(UsageError, match="not tied"):
        model_sizes(tiny_llama(layers=3).config, 1, keep_tied=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_sizes(name: str) -> None:
    model = tiny_family(name, layers=2)
    sizes = model_sizes(model.config, None)
    assert sizes.total == sizes.trained == sum(parameter.numel() for parameter in model.parameters())
    assert sizes.attention_width == 32


def test_the_configuration_stays_as_it_was() -> None:
    config = tiny_llama(layers=3, tied=True).config
    before = config.to_dict()
    model_sizes(config, 1)
    thin_config(config, 1, 16)
    assert config.to_dict() == before
    assert config.tie_word_embeddings


def test_sizes_need_no_weights(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", tiny_llama(layers=3))
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert model_sizes(read_model_config(str(folder)), None).layers == 3


def test_more_layers_than_there_are_is_an_error() -> None:
    with pytest.raises(UsageError, match="the model has 2 layers"):
        model_sizes(tiny_llama(layers=2).config, 3)


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        read_model_config(str(tmp_path))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_thin_model_has_layers_of_the_same_shape(name: str) -> None:
    whole = tiny_family(name, layers=3)
    thin = random_model(thin_config(whole.config, 2, 64), "cpu")
    assert len(layers(decoder(thin))) == 2
    assert head(thin).weight.shape == (64, head(whole).weight.shape[1])
    shapes = [
        {key: value.shape for key, value in layers(decoder(model))[-1].state_dict().items()}
        for model in (whole, thin)
    ]
    assert shapes[0] == shapes[1]


def test_kept_bytes_count_a_tensor_once_and_no_parameter() -> None:
    weight = torch.nn.Parameter(torch.ones(8))
    entry = torch.ones(8, requires_grad=True)

    def forward() -> torch.Tensor:
        product = weight * entry  # keeps the entry: 32 bytes, and the weight, which is not counted
        return (product * product).sum()  # keeps the product, twice: 32 bytes

    assert bytes_kept(forward, [weight]) == 64
    assert bytes_kept(forward, []) == 96


@pytest.mark.parametrize("lora", [None, Lora(2, 4, 0)])
def test_linear_weights_are_counted_without_head_bias_and_adapters(lora: Lora | None) -> None:
    """A layer of a Qwen 2: queries and output, keys and values of half the width, and three of the MLP."""
    config = tiny_family("Qwen2", layers=3).config
    assert model_sizes(config, None, lora).linear == 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)


@pytest.mark.parametrize("inner", [64, 256])
def test_a_layer_keeps_about_what_its_linear_layers_read_and_write(inner: int) -> None:
    """Without a measurement memory is told from that; how far it is off is bounded here by a real pass."""
    models = [tiny_llama(layers=count, intermediate_size=inner) for count in (2, 3)]
    ids = torch.arange(200)[None]
    kept = [bytes_kept(lambda m=model: m(ids).logits.sum(), model.parameters()) for model in models]
    told = 4 * 200 * linear_widths(models[0].config)
    assert told == pytest.approx(kept[1] - kept[0], rel=0.3)


def test_a_model_that_is_not_here_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as caught:
        read_model_config("nobody/nothing")
    assert caught.value.where == "nobody/nothing"
    assert "hf download nobody/nothing" in str(caught.value)
    assert "HF_HUB_OFFLINE is set" in str(caught.value)
