"""Masked groups: packed, padded, and transformers' plain forward with the same mask give the same numbers."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiny import (
    FAMILIES,
    gradients,
    largest_difference,
    pair_model,
    plain_token_logps,
    random_groups,
    random_pairs,
    tiny_config,
    tiny_family,
    tiny_llama,
)

from penchant.batching.pair_batch import Group, pair_group
from penchant.objective.logps import pair_logps
from penchant.objective.reference import reference_logps
from penchant.objective.score import score_groups, score_pairs
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.step import Trainer
from penchant.types import TokenizedPair

LOGPS = 1e-5
SHARED = tuple(name for name in FAMILIES if not name.startswith("Gemma"))


def random_mask(coin: random.Random, length: int) -> tuple[bool, ...]:
    """A mask whose last token is scored, as a response's is."""
    return (*(coin.random() < 0.5 for _ in range(length - 1)), True)


def masked_groups(count: int, *, seed: int = 0) -> list[Group]:
    """Groups with a mask for each response, for one of them, or for none."""
    coin = random.Random(seed)
    found = []
    for index, group in enumerate(random_groups(count, seed=seed)):
        masks = tuple(random_mask(coin, len(response)) for response in group.responses)
        found.append(replace(group, scored=(masks, (masks[0], None), None)[index % 3]))
    return found


def masked_pairs(count: int, *, seed: int = 0) -> list[TokenizedPair]:
    coin = random.Random(seed)
    return [
        replace(
            pair,
            chosen_scored=random_mask(coin, len(pair.chosen_ids)),
            rejected_scored=random_mask(coin, len(pair.rejected_ids)) if index % 2 else None,
        )
        for index, pair in enumerate(random_pairs(count, seed=seed))
    ]


def flat_mask(groups: list[Group]) -> torch.Tensor:
    """Of every response token in order whether it is scored."""
    masks = [
        mask or (True,) * len(response)
        for group in groups
        for response, mask in zip(group.responses, group.scored or (None,) * len(group.responses), strict=True)
    ]
    return torch.tensor([scored for mask in masks for scored in mask])


@pytest.mark.parametrize("name", SHARED)
def test_packed_with_masks_is_the_plain_forward_with_the_same_mask(name: str) -> None:
    """Log-probabilities and gradients; unscored tokens are fed all the same."""
    model, groups = tiny_family(name), masked_groups(7, seed=1)
    mask = flat_mask(groups)
    assert 0 < int(mask.sum()) < len(mask)
    expected = plain_token_logps(model, groups)[mask]
    expected_gradients = gradients(model, expected)
    packed = pair_model(model)
    batch = packed.collate(groups)
    unmasked = packed.collate([replace(group, scored=None) for group in groups])
    assert torch.equal(batch.input_ids, unmasked.input_ids)
    found = packed(batch)
    assert largest_difference(found.detach(), expected.detach()) <= LOGPS
    found_gradients = gradients(model, found)
    largest = max(float(value.abs().max()) for value in expected_gradients.values())
    for key, value in expected_gradients.items():
        assert float((found_gradients[key] - value).abs().max()) <= LOGPS * largest, key


@pytest.mark.parametrize("name", FAMILIES)
def test_separate_with_masks_is_the_plain_forward_with_the_same_mask(name: str) -> None:
    model, groups = tiny_family(name), masked_groups(7, seed=2)
    separate = pair_model(model, prefix_sharing=False)
    found = separate(separate.collate(groups)).detach()
    assert largest_difference(found, plain_token_logps(model, groups).detach()[flat_mask(groups)]) <= LOGPS


def test_a_mask_of_nothing_but_ones_is_no_mask() -> None:
    """Bit for bit."""
    model = pair_model(tiny_llama())
    groups = random_groups(5)
    ones = [replace(g, scored=tuple((True,) * len(r) for r in g.responses)) for g in groups]
    with torch.no_grad():
        assert torch.equal(model(model.collate(groups)), model(model.collate(ones)))


def test_sums_and_counts_are_of_scored_tokens_only() -> None:
    """Pair sums, by way of scoring and of training, and a response of which nothing is scored: zero of nothing."""
    model = pair_model(tiny_llama())
    pairs = masked_pairs(6, seed=3)
    pairs[0] = replace(pairs[0], chosen_scored=(False,) * len(pairs[0].chosen_ids))
    groups = [pair_group(pair) for pair in pairs]
    plain = plain_token_logps(model.model, groups).detach()
    lengths = [len(response) for group in groups for response in group.responses]
    values, masks = plain.split(lengths), flat_mask(groups).split(lengths)
    sums = [float(value[mask].double().sum()) for value, mask in zip(values, masks, strict=True)]
    counts = [int(mask.sum()) for mask in masks]
    assert counts[0] == 0

    batch = model.collate(groups)
    for found in (score_pairs(model, pairs, micro_batch_tokens=40), pair_logps(model(batch).detach(), batch)):
        assert found.chosen.tolist() == pytest.approx(sums[0::2], rel=1e-5)
        assert found.rejected.tolist() == pytest.approx(sums[1::2], rel=1e-5)
        assert found.chosen_tokens.tolist() == counts[0::2]
        assert found.rejected_tokens.tolist() == counts[1::2]
    assert [pair.num_scored for pair in pairs] == list(zip(counts[0::2], counts[1::2], strict=True))


def test_only_scored_positions_reach_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head sees as many rows as there are scored tokens."""
    import penchant.objective.pair_model as module

    rows: list[int] = []
    head = module.token_logps

    def watched(hidden: torch.Tensor, *rest: object) -> torch.Tensor:
        rows.append(len(hidden))
        return head(hidden, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "token_logps", watched)
    model, groups = pair_model(tiny_llama()), masked_groups(6)
    score_groups(model, groups, micro_batch_tokens=10_000)
    assert rows == [int(flat_mask(groups).sum())]


def test_a_reference_store_is_found_again_for_the_same_mask_only(tmp_path: Path) -> None:
    """Another mask is another content, even one of as many tokens; stored lengths are those of scored tokens."""
    model, pairs = pair_model(tiny_llama()), masked_pairs(4, seed=5)
    rest = (False,) * (len(pairs[1].chosen_ids) - 1)
    assert rest
    pairs[1] = replace(pairs[1], chosen_scored=(True, *rest))
    first = reference_logps(model, pairs, tmp_path, micro_batch_tokens=100).logps
    again = reference_logps(model, pairs, tmp_path, micro_batch_tokens=100)
    assert (again.reused, again.scored) == (4, 0)
    assert torch.equal(first.chosen, again.logps.chosen)
    assert again.logps.chosen_tokens.tolist() == [pair.num_scored[0] for pair in pairs]
    pairs[1] = replace(pairs[1], chosen_scored=(*rest, True))
    changed = reference_logps(model, pairs, tmp_path, micro_batch_tokens=100)
    assert (changed.reused, changed.scored) == (3, 1)
    assert float(changed.logps.chosen[1]) != float(first.chosen[1])
    assert torch.equal(changed.logps.chosen[[0, 2, 3]], first.chosen[[0, 2, 3]])


@pytest.mark.parametrize("loss", ["dpo", "sft"])
def test_training_on_masked_pairs_begins_where_it_must(tmp_path: Path, loss: str) -> None:
    """DPO at ln 2; likelihood at minus the mean scored sum; the weights of both layouts stay equal."""
    pairs = masked_pairs(4, seed=6)
    steps: list[list[float]] = []
    for sharing in (True, False):
        settings = {"loss": loss, "logps": "sum"}
        config = tiny_config("none", objective=settings, train={"max_steps": 3, "schedule": "constant"})
        model = pair_model(tiny_llama(), prefix_sharing=sharing)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        start = score_pairs(model, pairs, micro_batch_tokens=1000)
        reference = start if loss == "dpo" else None
        trainer = Trainer(config, model, pairs, reference, make_optimizer(config, model), TrunkCache(0))
        losses: list[float] = []
        train(trainer, lambda _, metrics, losses=losses: losses.append(metrics["loss"]))
        expected = math.log(2) if loss == "dpo" else -float(start.chosen.mean())
        assert losses[0] == pytest.approx(expected, rel=1e-5)
        steps.append(losses)
    assert steps[0] == pytest.approx(steps[1], rel=1e-4)
    assert steps[0][-1] < steps[0][0]
