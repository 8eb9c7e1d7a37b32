"""What is trained, counted by hand, and what follows for the layers below."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny import tiny_family, tiny_llama
from torch import nn

from penchant.config import build_config
from penchant.errors import ModelError, UsageError
from penchant.models.freeze import (
    choose_trainable,
    decoder,
    final_norm,
    frozen_layers,
    head,
    is_tied,
    untie_head,
)
from penchant.models.trunk import disable_dropout, split_decoder

# Of the tiny Llama: vocabulary 259, width 32, inner width 64, four heads, two of them for keys and values.
EMBEDDING = 259 * 32
LAYER = (32 * 32) * 2 + (32 * 16) * 2 + 3 * 32 * 64 + 2 * 32
NORM = 32


@pytest.mark.parametrize("tied", [False, True])
def test_everything_is_trained_by_default(tied: bool) -> None:
    """A tie is kept then, no layer is frozen, and a tied matrix counts once."""
    model = tiny_llama(tied=tied)
    part = choose_trainable(model, None)
    assert part.total == part.trained == EMBEDDING * (1 if tied else 2) + 4 * LAYER + NORM
    assert (part.frozen_layers, part.untied, part.share) == (0, False, 1.0)
    assert model.config.tie_word_embeddings is tied


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("last_layers", [0, 1, 4])
def test_the_last_layers_the_norm_and_the_head(tied: bool, last_layers: int) -> None:
    """A tied head gets its own copy, so the embedding stays frozen; the counts are of the untied model."""
    model = tiny_llama(tied=tied)
    before = head(model).weight.detach().clone()
    part = choose_trainable(model, last_layers)
    assert part.untied is tied
    assert part.trained == EMBEDDING + NORM + last_layers * LAYER
    assert part.total == 2 * EMBEDDING + 4 * LAYER + NORM
    assert part.frozen_layers == 4 - last_layers
    assert model.config.tie_word_embeddings is False
    embedding = model.get_input_embeddings().weight
    assert torch.equal(head(model).weight, before)
    assert isinstance(embedding, torch.Tensor)
    assert head(model).weight.data_ptr() != embedding.data_ptr()
    assert not embedding.requires_grad
    assert untie_head(model) is False


@pytest.mark.parametrize(
    ("patterns", "trained", "frozen"),
    [
        (["layers.2.mlp"], 3 * 32 * 64, 2),
        (["layers.[13].mlp", "layers.3.self_attn.q_proj"], 2 * 3 * 32 * 64 + 32 * 32, 1),
        (["model.norm"], NORM, 4),
        (["lm_head", "norm"], EMBEDDING + NORM, 4),
        (["*layernorm"], 4 * 2 * 32, 0),
        (["embed_tokens"], EMBEDDING, 0),
    ],
)
def test_patterns_name_what_is_trained(patterns: list[str], trained: int, frozen: int) -> None:
    """Exactly the parameters that they name; what is constant below follows from them."""
    model = tiny_llama()
    part = choose_trainable(model, None, patterns=patterns)
    assert (part.trained, part.frozen_layers, part.untied) == (trained, frozen, False)
    assert trained == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert part.total == 2 * EMBEDDING + 4 * LAYER + NORM


@pytest.mark.parametrize(
    ("patterns", "keep_tied", "untied", "trained", "frozen"),
    [
        (["lm_head"], False, True, EMBEDDING, 4),
        (["lm_head"], True, False, EMBEDDING, 0),
        (["layers.3"], False, False, LAYER, 3),
        (["lm_head", "embed_tokens"], False, False, EMBEDDING, 0),
        (["embed_tokens"], False, False, EMBEDDING, 0),
    ],
)
def test_patterns_untie_a_head_that_is_trained_without_its_embedding(
    patterns: list[str], keep_tied: bool, untied: bool, trained: int, frozen: int
) -> None:
    """Both together stay one matrix, and so they do when that is asked for; then nothing below is constant."""
    model = tiny_llama(tied=True)
    part = choose_trainable(model, None, patterns=patterns, keep_tied=keep_tied)
    assert (part.untied, part.trained, part.frozen_layers) == (untied, trained, frozen)
    assert part.kept_tied is keep_tied
    assert model.config.tie_word_embeddings is not untied
    assert is_tied(model) is not untied


def test_a_kept_tie_trains_the_embedding_and_freezes_no_layer() -> None:
    """The weights of lower layers stay as they are, and their outputs do not."""
    model = tiny_llama(tied=True)
    part = choose_trainable(model, 1, keep_tied=True)
    assert (part.trained, part.total) == (EMBEDDING + NORM + LAYER, EMBEDDING + NORM + 4 * LAYER)
    assert (part.frozen_layers, part.untied, part.kept_tied) == (0, False, True)
    assert model.get_input_embeddings().weight.requires_grad  # type: ignore[union-attr]
    assert not model.get_parameter("model.layers.2.mlp.up_proj.weight").requires_grad
    assert model.config.tie_word_embeddings


def test_a_tie_that_nothing_would_undo_cannot_be_kept() -> None:
    with pytest.raises(UsageError, match="not tied to its embedding"):
        choose_trainable(tiny_llama(), 1, keep_tied=True)
    with pytest.raises(UsageError, match=r"no pattern of model\.train names the head"):
        choose_trainable(tiny_llama(tied=True), None, patterns=["layers.1"], keep_tied=True)


def test_a_pattern_that_names_nothing_is_an_error_before_anything_is_changed() -> None:
    model = tiny_llama(tied=True)
    with pytest.raises(UsageError, match=r'"layers\.9" names no parameter of this model'):
        choose_trainable(model, None, patterns=["lm_head", "layers.9"])
    assert is_tied(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"train": ["mlp"], "last_layers": 1}, "both say what is trained"),
        ({"train": ["mlp"], "lora_rank": 4}, "model.lora_targets says what is adapted"),
        ({"keep_tied": True}, "only with model.last_layers or model.train"),
        ({"keep_tied": True, "last_layers": 1, "lora_rank": 4}, "only with model.last_layers or model.train"),
        ({"train": []}, "at least 1"),
        ({"train": [""]}, "at least 1"),
        ({"lora_rank": 2, "lora_targets": []}, "at least 1"),
        ({"lora_variant": "dora"}, "lora_variant is not used without model.lora_rank"),
        ({"lora_targets": ["q_proj"]}, "lora_targets is not used without model.lora_rank"),
        ({"load_in_4bit": True, "lora_rank": 4, "lora_variant": "dora"}, "lora or rslora, not with dora"),
        ({"load_in_4bit": True}, "load_in_4bit is not used without model.lora_rank"),
    ],
)
def test_options_that_would_be_ignored_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_config({"model": section})


def test_more_layers_than_there_are_is_an_error() -> None:
    """The message tells the number there is."""
    with pytest.raises(UsageError, match=r"last_layers = 5, but the model has 4"):
        choose_trainable(tiny_llama(), 5)


def test_a_tied_head_that_is_trained_freezes_nothing() -> None:
    """Without untying the head trains the input embedding, and with it everything below."""
    model = tiny_llama(tied=True)
    model.requires_grad_(False)
    head(model).requires_grad_(True)
    assert frozen_layers(model) == 0
    untied = tiny_llama(tied=False)
    untied.requires_grad_(False)
    head(untied).requires_grad_(True)
    assert frozen_layers(untied) == 4


def test_frozen_layers_are_judged_from_the_parameters() -> None:
    """One trained number in a layer, of whatever kind, ends the frozen part; norm and head do not."""
    model = tiny_llama()
    model.requires_grad_(False)
    assert frozen_layers(model) == 4
    final_norm(decoder(model)).requires_grad_(True)
    assert frozen_layers(model) == 4
    model.get_parameter("model.layers.2.input_layernorm.weight").requires_grad_(True)
    assert frozen_layers(model) == 2
    model.get_parameter("model.layers.1.mlp.up_proj.weight").requires_grad_(True)
    assert frozen_layers(model) == 1
    model.get_input_embeddings().requires_grad_(True)
    assert frozen_layers(model) == 0


def test_a_parameter_outside_the_known_parts_freezes_nothing() -> None:
    """Whatever else is trained may lie below the layers, so nothing is taken as frozen."""
    model = tiny_llama()
    choose_trainable(model, 1)
    model.model.register_parameter("offset", nn.Parameter(torch.zeros(3)))
    assert frozen_layers(model) == 0


def test_a_model_without_a_known_stack_is_refused() -> None:
    """In words, not by an attribute error."""
    model = tiny_llama()
    stack = model.model.layers
    model.model.layers = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(ModelError, match="no list of decoder layers"):
        choose_trainable(model, None)
    model.model.layers = stack
    model.model.norm = None  # type: ignore[assignment]
    with pytest.raises(ModelError, match="no final norm"):
        choose_trainable(model, 1)
    model.lm_head = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(ModelError, match="no linear head"):
        head(model)


@pytest.mark.parametrize("lower", [0, 1, 3])
@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Phi3"])
def test_the_halves_replay_the_whole_decoder(name: str, lower: int) -> None:
    """Lower then upper give the bits of one forward, share every parameter, and leave the model alone."""
    model = tiny_family(name)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        whole = decoder(model)(input_ids=ids, use_cache=False).last_hidden_state
        bottom, top = (part.module for part in split_decoder(model, [lower]))
        middle = bottom(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(top(inputs_embeds=middle, use_cache=False).last_hidden_state, whole)
        assert torch.equal(decoder(model)(input_ids=ids, use_cache=False).last_hidden_state, whole)
    assert len(decoder(model).layers) == model.config.num_hidden_layers == 3  # type: ignore[arg-type]
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(p) for half in (bottom, top) for p in half.parameters()} <= own


def test_dropout_is_off_even_in_training_mode() -> None:
    """p = 0 everywhere, so that two passes in training mode are equal."""
    model = tiny_llama(attention_dropout=0.5)
    block = model.get_submodule("model.layers.0.mlp")
    block.down_proj = nn.Sequential(block.get_submodule("down_proj"), nn.Dropout(0.5))
    model.train()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert not torch.equal(model(ids).logits, model(ids).logits)
        disable_dropout(model)
        assert torch.equal(model(ids).logits, model(ids).logits)
