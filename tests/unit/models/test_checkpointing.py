"""Layers computed again in the backward pass: what is kept falls, and the model stays as it was."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import PAD, plain_token_logps, random_groups, tiny_llama

from penchant.models.activation_memory import bytes_kept
from penchant.models.checkpointing import recomputed_model
from penchant.objective.pair_model import PairModel

GROUPS = random_groups(6, seed=3)


def kept(layers: int, *, checkpointing: bool, prefix_sharing: bool = True) -> int:
    """Bytes that the decoder keeps for the backward pass of one micro-batch."""
    model = tiny_llama(layers=layers)
    scorer = PairModel(
        model,
        trunk_layers=0,
        prefix_sharing=prefix_sharing,
        precision="fp32",
        pad_id=PAD,
        checkpointing=checkpointing,
    )
    batch = scorer.collate(GROUPS)
    return bytes_kept(lambda: scorer(batch), model.parameters())


@pytest.mark.parametrize("prefix_sharing", [True, False])
def test_a_layer_keeps_its_input_alone(prefix_sharing: bool) -> None:
    """Four layers more keep four inputs more, fp32 of the model's width a row; otherwise far more than that."""
    sizes = {
        again: kept(8, checkpointing=again, prefix_sharing=prefix_sharing)
        - kept(4, checkpointing=again, prefix_sharing=prefix_sharing)
        for again in (True, False)
    }
    model = tiny_llama(layers=1)
    scorer = PairModel(model, trunk_layers=0, prefix_sharing=prefix_sharing, precision="fp32", pad_id=PAD)
    rows = scorer.collate(GROUPS).input_ids.numel()
    assert sizes[True] == 4 * rows * 32 * 4
    assert sizes[True] < sizes[False] / 10


def test_the_model_itself_is_as_it_was() -> None:
    """Its own layers keep what they give; the copy has the same parameters, and its numbers are the model's."""
    model = tiny_llama(layers=3)
    copied = recomputed_model(model)
    assert torch.equal(plain_token_logps(copied, GROUPS), plain_token_logps(model, GROUPS))
    ids = torch.tensor([[5, 6, 7, 8]])
    own, copies = (
        bytes_kept(lambda policy=policy: policy(input_ids=ids, use_cache=False).logits, model.parameters())
        for policy in (model, copied)
    )
    assert copies < own / 2
    assert {id(p) for p in copied.parameters()} == {id(p) for p in model.parameters()}
    assert copied.model.layers[0] is not model.model.layers[0]  # type: ignore[union-attr]
