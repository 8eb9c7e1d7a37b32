"""Every way to choose what is trained: the fast engine gives the numbers and gradients of the plain forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny import gradients, largest_difference, pair_model, plain_token_logps, random_groups, tiny_llama

from penchant.models.freeze import choose_trainable
from penchant.models.lora import Lora

GROUPS = random_groups(4, seed=5)
CHOICES: dict[str, tuple[bool, int, dict[str, Any]]] = {  # tied, layers that are constant, what is trained
    "feed-forward parts of two layers": (False, 2, {"patterns": ["layers.[23].mlp"]}),
    "a layer in the middle": (True, 1, {"patterns": ["layers.1"]}),
    "the head alone, untied": (True, 4, {"patterns": ["lm_head"]}),
    "the embedding alone": (False, 0, {"patterns": ["embed_tokens"]}),
    "the last layer, tie kept": (True, 0, {"last_layers": 1, "keep_tied": True}),
    "rslora": (False, 2, {"last_layers": 2, "lora": Lora(4, 8.0, 0, "rslora")}),
    "dora": (False, 2, {"last_layers": 2, "lora": Lora(4, 8.0, 0, "dora")}),
    "some linear layers": (True, 1, {"lora": Lora(4, 8.0, 0, targets=("layers.1.mlp", "layers.3.self_attn"))}),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_split_forward_is_the_plain_one_with_the_same_freezing(name: str) -> None:
    tied, frozen, choice = CHOICES[name]
    model = tiny_llama(tied=tied)
    part = choose_trainable(model, **{"last_layers": None, **choice})
    assert part.frozen_layers == frozen
    with torch.no_grad():  # adapters that do something
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.1)
    expected = plain_token_logps(model, GROUPS)
    expected_gradients = gradients(model, expected)
    fast = pair_model(model, trunk_layers=part.frozen_layers)
    found = fast(fast.collate(GROUPS))
    assert largest_difference(found.detach(), expected.detach()) <= 1e-5
    found_gradients = gradients(model, found)
    assert found_gradients.keys() == {key for key, p in model.named_parameters() if p.requires_grad}
    assert found_gradients.keys() == expected_gradients.keys()
    for key, gradient in expected_gradients.items():
        assert largest_difference(found_gradients[key], gradient) <= 1e-4, key
