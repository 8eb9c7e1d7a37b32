"""What is trained, counted by hand, and what follows for the layers below."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_family, tiny_llama
from torch import nn

from penchant.errors import ModelError, UsageError
from penchant.models.freeze import choose_trainable, decoder, final_norm, frozen_layers, head, untie_head
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
