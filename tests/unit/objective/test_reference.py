"""The reference store: reused when nothing that it depends on changed, and only then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import (
    pair_model,
    pair_rows,
    plain_token_logps,
    random_groups,
    random_pairs,
    save_tiny,
    tiny_config,
    tiny_llama,
    write_rows,
)
from torch import Tensor

import penchant.objective.reference as module
from penchant.batching.pair_batch import PairBatch, pair_group
from penchant.objective.logps import PairLogps
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import reference_logps, store_key
from penchant.objective.score import TrunkCache, score_groups, score_pairs
from penchant.types import TokenizedPair
from penchant.workflow.train import train_run

PAIRS = random_pairs(7, seed=5)
VALUES = "token_logps.safetensors"


class Counted:
    """Counts the forward passes of every model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        forward = PairModel.forward

        def counting(model: PairModel, batch: PairBatch, *rest: Any) -> Tensor:
            self.calls += 1
            return forward(model, batch, *rest)

        monkeypatch.setattr(PairModel, "forward", counting)

    def since(self) -> int:
        """Passes since this was last asked."""
        calls, self.calls = self.calls, 0
        return calls


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def stored(folder: Path, model: PairModel, pairs: list[TokenizedPair] = PAIRS) -> PairLogps:
    return reference_logps(model, pairs, folder, micro_batch_tokens=64)


def test_a_store_is_reused_and_gives_the_same_numbers(tmp_path: Path, counted: Counted) -> None:
    """The second time the model is not called, and every value is the same bit for bit."""
    model = pair_model(tiny_llama())
    first = stored(tmp_path, model)
    assert counted.since() > 1
    second = stored(tmp_path, model)
    assert counted.since() == 0
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name)), name


def test_the_store_holds_what_the_model_says(tmp_path: Path) -> None:
    """Token by token, in the order of the pairs, though pairs of like length shared a pass."""
    model = pair_model(tiny_llama())
    sums = stored(tmp_path, model)
    expected = plain_token_logps(model.model, [pair_group(pair) for pair in PAIRS]).detach()
    values = load_file(tmp_path / VALUES)["token_logps"]
    assert torch.allclose(values, expected, rtol=1e-5, atol=1e-5)
    lengths = [len(ids) for pair in PAIRS for ids in (pair.chosen_ids, pair.rejected_ids)]
    by_response = torch.stack([part.sum() for part in expected.split(lengths)])
    assert torch.allclose(sums.chosen, by_response[0::2], rtol=1e-5)
    assert torch.allclose(sums.rejected, by_response[1::2], rtol=1e-5)
    assert sums.chosen_tokens.tolist() == lengths[0::2]
    assert sums.rejected_tokens.tolist() == lengths[1::2]


def test_another_beta_reuses_the_store_of_a_run(tmp_path: Path, counted: Counted) -> None:
    """Two runs that differ in beta and learning rate: the second calls the model for its steps only."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    source = save_tiny(tmp_path / "start")
    steps = {"max_steps": 2, "batch_pairs": 1}  # one micro-batch a step
    train_run(tiny_config(source, train=steps), data, tmp_path / "run")
    assert counted.since() > 2
    (tmp_path / "other").mkdir()
    (tmp_path / "run" / "reference").rename(tmp_path / "other" / "reference")
    changed = tiny_config(source, train={**steps, "learning_rate": 1e-5}, objective={"beta": 0.7})
    train_run(changed, data, tmp_path / "other")
    assert counted.since() == 2


@pytest.mark.parametrize("column", ["prompt_ids", "chosen_ids", "rejected_ids"])
def test_another_id_is_scored_anew(tmp_path: Path, counted: Counted, column: str) -> None:
    """A changed token of prompt or response, lengths equal, makes another store."""
    model = pair_model(tiny_llama())
    before = stored(tmp_path, model)
    counted.since()
    ids = getattr(PAIRS[2], column)
    changed = [*PAIRS]
    changed[2] = replace(PAIRS[2], **{column: ((ids[0] + 1) % 200 + 3, *ids[1:])})
    after = stored(tmp_path, model, changed)
    assert counted.since() > 0
    assert not torch.equal(before.chosen + before.rejected, after.chosen + after.rejected)


def test_another_border_between_prompt_and_response_is_another_store() -> None:
    """The same ids in a row, scored from another place on."""
    model = pair_model(tiny_llama())
    pair = TokenizedPair("a", (3, 4), (5, 6), (5, 7))
    moved = TokenizedPair("a", (3, 4, 5), (6,), (7,))
    assert store_key(model, [pair]) != store_key(model, [moved])
    assert store_key(model, [pair]) == store_key(model, [replace(pair, id="b", cluster="c")])


def test_another_weight_is_scored_anew(tmp_path: Path, counted: Counted) -> None:
    """One number of one frozen or trained parameter, changed by one part in a million."""
    model = pair_model(tiny_llama())
    stored(tmp_path, model)
    counted.since()
    with torch.no_grad():
        model.model.get_input_embeddings().weight[7, 3] += 1e-6  # type: ignore[union-attr,operator,index]
    stored(tmp_path, model)
    assert counted.since() > 0


def test_another_way_of_computing_is_another_store() -> None:
    """Layouts round differently, so they do not share a store; the trunk's depth changes no key."""
    model = tiny_llama()
    packed, separate = pair_model(model), pair_model(model, prefix_sharing=False)
    assert store_key(packed, PAIRS) != store_key(separate, PAIRS)
    assert store_key(packed, PAIRS) == store_key(pair_model(model, trunk_layers=2), PAIRS)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "meta torn", "meta missing", "lengths"])
def test_a_damaged_store_is_scored_anew(tmp_path: Path, counted: Counted, damage: str) -> None:
    """Whatever a kill or a disk left behind, the numbers come out right."""
    model = pair_model(tiny_llama())
    expected = stored(tmp_path, model)
    values, meta = tmp_path / VALUES, tmp_path / "store.json"
    if damage == "truncated":
        values.write_bytes(values.read_bytes()[:-5])
    elif damage == "empty":
        values.write_bytes(b"")
    elif damage == "missing":
        values.unlink()
    elif damage == "meta torn":
        meta.write_bytes(meta.read_bytes()[:20])
    elif damage == "meta missing":
        meta.unlink()
    else:
        tensors = load_file(values)
        save_file({**tensors, "lengths": tensors["lengths"].flip(0)}, values)
    counted.since()
    again = stored(tmp_path, model)
    assert counted.since() > 0
    assert torch.equal(again.chosen, expected.chosen)
    assert stored(tmp_path, model) is not None
    assert counted.since() == 0


def test_a_kill_between_values_and_key_leaves_no_store(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New values under the key of the old ones would be another model's reference; they are scored anew."""
    one, other = pair_model(tiny_llama(seed=1)), pair_model(tiny_llama(seed=2))
    expected = stored(tmp_path, one)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            stored(tmp_path, other)
    counted.since()
    again = stored(tmp_path, one)
    assert counted.since() > 0
    assert torch.equal(again.chosen, expected.chosen)


def test_scores_come_in_the_order_of_groups_of_any_size() -> None:
    """Groups of one to three responses, sorted by length for the passes, are answered as they were asked."""
    model = pair_model(tiny_llama())
    groups = [g for n in (1, 3, 2) for g in random_groups(3, seed=n, responses=n)]
    told: list[int] = []
    found = score_groups(model, groups, micro_batch_tokens=30, on_groups=told.append)
    assert sum(told) == len(groups)
    assert [len(row) for row in found] == [len(group.responses) for group in groups]
    flat = torch.cat([tokens for row in found for tokens in row])
    assert torch.allclose(flat, plain_token_logps(model.model, groups).detach(), rtol=1e-5, atol=1e-5)


def test_the_trunk_cache_keeps_to_its_budget() -> None:
    """Outputs of 4 bytes a number: three tokens of width two are 24 bytes, so a second pair finds no room."""
    cache = TrunkCache(40)
    output = torch.arange(6.0).reshape(3, 2)
    cache.keep(0, output)
    cache.keep(1, output)
    cache.keep(2, output[:2] + 1)
    assert (len(cache), cache.held_bytes) == (2, 40)
    assert cache.get([0, 1]) is None
    joined = cache.get([2, 0])
    assert joined is not None
    assert torch.equal(joined, torch.cat([output[:2] + 1, output]))
    assert TrunkCache(0).get([]) is None


def test_the_trunk_cache_holds_what_the_trunk_gives() -> None:
    """Filled while the reference is scored; afterwards one pair's outputs equal a pass over it alone."""
    model = pair_model(tiny_llama(), trunk_layers=3)
    cache = TrunkCache(1 << 20)
    score_pairs(model, PAIRS, micro_batch_tokens=64, trunk_cache=cache)
    assert len(cache) == len(PAIRS)
    for index, pair in enumerate(PAIRS):
        kept = cache.get([index])
        assert kept is not None
        alone = model.trunk(model.collate([pair_group(pair)]))
        assert torch.allclose(kept, alone, rtol=1e-5, atol=1e-5)
