"""What a run computes before its first step, and computes again when it is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny import pair_model, random_pairs, tiny_config, tiny_llama

from penchant.batching.pair_batch import pair_group
from penchant.models.freeze import choose_trainable
from penchant.objective.trunk_cache import TrunkCache, trunk_output
from penchant.workflow.reference_scores import layout_of, refill, score_reference
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper

PAIRS = random_pairs(24, seed=3)


@pytest.mark.parametrize("room", [1 << 20, 30_000])
def test_what_lay_in_memory_is_computed_again_in_the_same_company(tmp_path: Path, room: int) -> None:
    """Also where not all found room: the same pairs do, and later steps change nothing about it."""
    config = tiny_config("tiny", train={"batch_pairs": 8, "epochs": 2}, engine={"micro_batch_tokens": 120})
    model = tiny_llama(seed=2)
    scorer = pair_model(model, trunk_layers=choose_trainable(model, 2).frozen_layers)
    layout = layout_of(config, scorer.precision, PAIRS, [])
    first, again = TrunkCache(room), TrunkCache(room)
    score_reference(config, scorer, layout, first, {"model": "m"}, tmp_path, Reporter(), Stopper())
    first.drop([index for chunk in layout.chunks[:1] for index in chunk])
    for chunk in reversed(layout.chunks):  # a later epoch asks in another order, and in other company
        for some in (chunk[::2], chunk[1::2]):
            if some:
                batch = scorer.collate([pair_group(PAIRS[index]) for index in some])
                trunk_output(scorer, batch, some, first)
    refill(again, scorer, layout)
    dropped = set(layout.chunks[0])
    for index in range(len(PAIRS)):
        one, other = first.one(index), again.one(index)
        if index not in dropped:
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)  # type: ignore[arg-type]
    assert 0 < len(again)
    assert (len(again) == len(PAIRS)) is (room == 1 << 20)
