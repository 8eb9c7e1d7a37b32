"""Prefix-shared, separate, and plain transformers one sequence at a time: the same numbers and gradients."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import (
    END,
    FAMILIES,
    Notes,
    gradients,
    largest_difference,
    loaded,
    pair_model,
    plain_token_logps,
    random_groups,
    tiny_family,
)

from penchant.batching.pair_batch import Group
from penchant.config import build_config
from penchant.models.capability import no_prefix_sharing_reason
from penchant.models.freeze import choose_trainable, head
from penchant.workflow.setup import scoring_model

NOT_SHARED = ("Gemma2", "Gemma3")
SHARED = tuple(name for name in FAMILIES if name not in NOT_SHARED)
LOGPS, GRADIENTS = 1e-5, 1e-5
GROUPS = [
    *random_groups(4, seed=1),
    Group((5, 6, 7), ((8, END), (8, 9, END))),  # one response's fed part is a prefix of the other's
    Group((11,), ((END,), (12, 13, END))),  # a prompt and a response of one token
    Group((5, 6), ((20, 21, END), (20, 22, END), (23, END))),  # three responses
    Group((5, 6, 7), ((9, 10, END),)),  # one response
]


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        difference = float((found[name] - value).abs().max())
        assert difference <= GRADIENTS * largest, f"{name}: {difference / largest}"


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_shared_prefix_gives_the_plain_forward(name: str, tied: bool) -> None:
    """Packed log-probabilities and gradients are those of the model's own forward, sequence by sequence."""
    model = tiny_family(name, tied=tied)
    assert no_prefix_sharing_reason(model, 64) is None
    expected = plain_token_logps(model, GROUPS)
    expected_gradients = gradients(model, expected)

    packed = pair_model(model)
    batch = packed.collate(GROUPS)
    assert batch.segments is not None
    assert batch.num_tokens < sum(len(ids) for group in GROUPS for ids in group.fed())
    found = packed(batch)

    assert largest_difference(found.detach(), expected.detach()) <= LOGPS
    assert_same_gradients(gradients(model, found), expected_gradients)


@pytest.mark.parametrize("name", FAMILIES)
def test_separate_sequences_give_the_plain_forward(name: str) -> None:
    """The padded slow twin is the model's own forward too, whatever else shares its batch."""
    model = tiny_family(name)
    expected = plain_token_logps(model, GROUPS)
    separate = pair_model(model, prefix_sharing=False)
    found = separate(separate.collate(GROUPS))
    assert largest_difference(found.detach(), expected.detach()) <= LOGPS
    assert_same_gradients(gradients(model, found), gradients(model, expected))


@pytest.mark.parametrize("name", [*NOT_SHARED, "Mistral"])
def test_what_cannot_share_a_prefix_is_computed_apart_and_says_so(name: str) -> None:
    """A window shorter than the sequences takes the declared way out, and the numbers are right."""
    model = tiny_family(name, sliding_window=4)
    notes = Notes()
    ready = scoring_model(
        loaded(model),
        build_config({"engine": {"device": "cpu", "precision": "fp32"}}).engine,
        max_tokens=64,
        trunk_layers=0,
        reporter=notes,
    )
    assert not ready.prefix_sharing
    assert len(notes.lines) == 1
    assert "not shared" in notes.lines[0]
    found = ready(ready.collate(GROUPS))
    assert largest_difference(found.detach(), plain_token_logps(model, GROUPS).detach()) <= LOGPS


def test_a_window_changes_what_is_seen() -> None:
    """The window of the test above does matter: packing, were it forced, would give other numbers."""
    model = tiny_family("Mistral", sliding_window=4)
    packed = pair_model(model)
    found = packed(packed.collate(GROUPS)).detach()
    assert largest_difference(found, plain_token_logps(model, GROUPS).detach()) > 1e-3


@pytest.mark.parametrize("last_layers", [0, 1, 2])
@pytest.mark.parametrize("name", SHARED)
def test_trunk_gives_the_full_model_with_the_same_freezing(name: str, last_layers: int) -> None:
    """Frozen layers run once, apart and without gradient, change neither logps nor gradients."""
    model = tiny_family(name, tied=True)
    part = choose_trainable(model, last_layers)
    assert part.untied
    assert part.frozen_layers == 3 - last_layers
    expected = plain_token_logps(model, GROUPS)
    expected_gradients = gradients(model, expected)

    split = pair_model(model, trunk_layers=part.frozen_layers)
    batch = split.collate(GROUPS)
    found = split(batch)
    trunk_output = split.trunk(batch)
    assert not trunk_output.requires_grad
    again = split(batch, trunk_output)

    assert largest_difference(found.detach(), expected.detach()) <= LOGPS
    assert torch.equal(again, found)
    found_gradients = gradients(model, found)
    assert_same_gradients(found_gradients, expected_gradients)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found_gradients.keys() == trained
    assert head(model).weight.requires_grad


def test_scoring_leaves_the_model_as_it_was() -> None:
    """After a packed forward the model's own forward still runs with its own attention."""
    model = tiny_family("Llama")
    before = plain_token_logps(model, GROUPS).detach()
    packed = pair_model(model)
    packed(packed.collate(GROUPS))
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(plain_token_logps(model, GROUPS).detach(), before)
