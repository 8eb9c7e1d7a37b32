"""Validation: the figures by hand, nothing touched, the same for any split; and what counts as better."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import pair_model, plain_token_logps, random_pairs, tiny_config, tiny_llama

from penchant.batching.pair_batch import pair_group
from penchant.errors import ModelError, UsageError
from penchant.models.freeze import choose_trainable
from penchant.objective.logps import PairLogps
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.checkpoint import check_best, load_best, save_best, save_checkpoint
from penchant.training.optimizer import make_optimizer
from penchant.training.validation import (
    Course,
    HeldOut,
    check_validation,
    choose_pairs,
    chunks_by_length,
    validate,
)
from penchant.types import TokenizedPair

PAIRS = random_pairs(11, seed=5)
OBJECTIVE = tiny_config("tiny").objective


def sums_by_hand(model: Any, pairs: list[TokenizedPair]) -> list[list[float]]:
    """Chosen and rejected log-probability of each pair, one whole sequence at a time."""
    found = []
    with torch.no_grad():
        for pair in pairs:
            parts = plain_token_logps(model, [pair_group(pair)]).split(
                [len(pair.chosen_ids), len(pair.rejected_ids)]
            )
            found.append([float(part.double().sum()) for part in parts])
    return found


def reference_of(model: Any, pairs: list[TokenizedPair]) -> PairLogps:
    sums = torch.tensor(sums_by_hand(model, pairs))
    chosen = torch.tensor([float(len(pair.chosen_ids)) for pair in pairs])
    rejected = torch.tensor([float(len(pair.rejected_ids)) for pair in pairs])
    return PairLogps(sums[:, 0], sums[:, 1], chosen, rejected)


def held_out(reference: PairLogps, *, max_tokens: int = 64, first: int = 0) -> HeldOut:
    chunks = [[first + place for place in part] for part in chunks_by_length(PAIRS[first:], max_tokens)]
    return HeldOut(PAIRS, chunks, reference, TrunkCache(0))


def test_every_figure_is_the_one_by_hand() -> None:
    """Loss, rewards, accuracy and log-probabilities over pairs 3 to 10; the others count for nothing."""
    policy, start = tiny_llama(seed=1), tiny_llama(seed=2)
    found = validate(OBJECTIVE, pair_model(policy), held_out(reference_of(start, PAIRS), first=3))
    now, then = sums_by_hand(policy, PAIRS[3:]), sums_by_hand(start, PAIRS[3:])
    rewards = [
        [0.1 * (a - b) for a, b in zip(one, other, strict=True)] for one, other in zip(now, then, strict=True)
    ]
    margins = [chosen - rejected for chosen, rejected in rewards]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    expected = {
        "loss": mean([math.log1p(math.exp(-margin)) for margin in margins]),
        "rewards/chosen": mean([chosen for chosen, _ in rewards]),
        "rewards/rejected": mean([rejected for _, rejected in rewards]),
        "rewards/margins": mean(margins),
        "rewards/accuracies": mean([float(margin > 0) for margin in margins]),
        "chosen_fell_fraction": mean([float(one[0] < other[0]) for one, other in zip(now, then, strict=True)]),
        "logps/chosen": mean([chosen for chosen, _ in now]),
        "logps/rejected": mean([rejected for _, rejected in now]),
        "pairs": 8,
    }
    tokens = found.pop("tokens")
    assert found == pytest.approx(expected, rel=1e-5)
    assert 0 < found["rewards/accuracies"] < 1
    assert tokens == sum(pair_group(pair).num_packed_tokens for pair in PAIRS[3:])


def test_figures_do_not_depend_on_the_split_or_the_layout() -> None:
    """One pair a pass, some, all in one; packed or padded."""
    reference = reference_of(tiny_llama(seed=2), PAIRS)
    wanted = validate(OBJECTIVE, pair_model(tiny_llama(seed=1)), held_out(reference, max_tokens=1))
    for tokens, sharing in ((40, True), (1 << 20, True), (1, False)):
        model = pair_model(tiny_llama(seed=1), prefix_sharing=sharing)
        found = validate(OBJECTIVE, model, held_out(reference, max_tokens=tokens))
        if not sharing:  # padding counts as tokens there
            found["tokens"] = wanted["tokens"]
        assert found == pytest.approx(wanted, rel=1e-5), (tokens, sharing)


def test_nothing_is_touched() -> None:
    """Weights, gradients that wait for their update, and the reference are the same bits afterwards."""
    model = tiny_llama(seed=1)
    scorer = pair_model(model)
    reference = reference_of(tiny_llama(seed=2), PAIRS)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = [getattr(reference, name).clone() for name in vars(reference)]
    state = torch.get_rng_state()
    validate(OBJECTIVE, scorer, held_out(reference))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(bool((p.grad == 0.5).all()) for p in model.parameters() if p.grad is not None)
    assert all(torch.equal(getattr(reference, name), old) for name, old in zip(vars(reference), kept, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_untouched_policy_is_the_reference_to_the_bit(tmp_path: Path) -> None:
    """ln 2 and no reward, from the store that training uses and the passes that validation makes."""
    scorer = pair_model(tiny_llama(seed=1))
    chunks = chunks_by_length(PAIRS, 64)
    reference = reference_logps(scorer, PAIRS, tmp_path, micro_batch_tokens=64, chunks=chunks).logps
    found = validate(OBJECTIVE, scorer, HeldOut(PAIRS, chunks, reference, TrunkCache(0)))
    assert found["rewards/margins"] == 0.0
    assert found["rewards/accuracies"] == 0.5
    assert found["loss"] == pytest.approx(math.log(2), abs=1e-7)


@pytest.mark.parametrize("cache_bytes", [0, 20_000, 1 << 20])
def test_frozen_layers_that_were_given_back_still_serve(cache_bytes: int) -> None:
    """With all, some or none of their outputs kept, and their memory returned: the same bits."""
    model = tiny_llama(seed=1)
    part = choose_trainable(model, 1)
    scorer = pair_model(model, trunk_layers=part.frozen_layers)
    reference = reference_of(tiny_llama(seed=2), PAIRS)
    chunks = chunks_by_length(PAIRS, 64)
    wanted = validate(OBJECTIVE, pair_model(model), HeldOut(PAIRS, chunks, reference, TrunkCache(0)))
    cache = TrunkCache(cache_bytes)
    first = validate(OBJECTIVE, scorer, HeldOut(PAIRS, chunks, reference, cache))
    assert (0 < len(cache) < len(PAIRS)) is (cache_bytes == 20_000)
    cache.drop(range(5))
    scorer.rest_trunk()
    assert validate(OBJECTIVE, scorer, HeldOut(PAIRS, chunks, reference, cache)) == first
    assert first == pytest.approx(wanted, rel=1e-5)


def test_a_pass_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to single pairs; the figures stay. A pair that does not fit alone is an error."""
    reference = reference_of(tiny_llama(seed=2), PAIRS)
    scorer = pair_model(tiny_llama(seed=1))
    wanted = validate(OBJECTIVE, scorer, held_out(reference, max_tokens=1 << 20))
    collate, sizes = PairModel.collate, []

    def short_of_memory(self: PairModel, groups: Any, most: int = 2) -> Any:
        sizes.append(len(groups))
        if len(groups) > most:
            raise MemoryError
        return collate(self, groups)

    monkeypatch.setattr(PairModel, "collate", short_of_memory)
    assert validate(OBJECTIVE, scorer, held_out(reference, max_tokens=1 << 20)) == pytest.approx(wanted, rel=1e-5)
    assert max(sizes) == len(PAIRS)
    monkeypatch.setattr(PairModel, "collate", lambda self, groups: short_of_memory(self, groups, 0))
    with pytest.raises(MemoryError):
        validate(OBJECTIVE, scorer, held_out(reference))


def test_the_choice_is_the_same_whatever_the_order_and_stays_when_the_file_grows() -> None:
    pairs = random_pairs(40)
    chosen = choose_pairs(pairs, 10)
    assert [pair.id for pair in chosen] != [pair.id for pair in pairs[:10]]
    assert chosen == [pair for pair in pairs if pair in chosen]  # in the order of the file
    shuffled = random.Random(1).sample(pairs, len(pairs))
    assert {pair.id for pair in choose_pairs(shuffled, 10)} == {pair.id for pair in chosen}
    assert {pair.id for pair in choose_pairs(pairs, 20)} > {pair.id for pair in chosen}
    assert choose_pairs(pairs, 99) == pairs


def test_passes_hold_each_pair_once_and_no_more_tokens_than_they_may() -> None:
    lengths = [pair_group(pair).num_packed_tokens for pair in PAIRS]
    chunks = chunks_by_length(PAIRS, 60)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(len(PAIRS)))
    assert all(sum(lengths[index] for index in chunk) <= 60 or len(chunk) == 1 for chunk in chunks)
    assert 1 < len(chunks) < len(PAIRS)
    flat = [lengths[index] for chunk in chunks for index in chunk]
    assert flat == sorted(flat)


@pytest.mark.parametrize(("sign", "lower"), [(1, True), (-1, False)])
def test_a_better_figure_starts_the_count_again(sign: int, lower: bool) -> None:
    """Lower or higher by the metric; a tie and what is no number are not better."""
    course = Course()
    heard = [3.0, 3.0, 4.0, 2.0, math.nan, 2.5]
    better = [course.hear(step, sign * value, lower_is_better=lower) for step, value in enumerate(heard, start=1)]
    assert better == [True, False, False, True, False, False]
    assert (course.value, course.step, course.without) == (sign * 2.0, 4, 2)


def test_what_is_no_number_is_never_the_best() -> None:
    course = Course()
    assert not course.hear(1, math.nan, lower_is_better=True)
    assert (course.step, course.without) == (None, 1)
    assert course.hear(2, 7.0, lower_is_better=True)


def test_rewards_without_a_reference_are_refused() -> None:
    train = {"evaluate_every": 1, "keep_best": "rewards/margins"}
    with pytest.raises(UsageError, match=r'"rewards/margins" is not measured with objective.loss "sft"'):
        check_validation(tiny_config("tiny", objective={"loss": "sft"}, train=train))
    check_validation(tiny_config("tiny", train=train))
    for name in ("loss", "logps/chosen"):
        train["keep_best"] = name
        check_validation(tiny_config("tiny", objective={"loss": "sft"}, train=train))


def marked(model: torch.nn.Module, value: float) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(value)
    return model


def test_the_best_weights_come_back_whole_or_not_at_all(tmp_path: Path) -> None:
    """Only the trained ones are written; a damaged file, or none, is an error that says which."""
    model = tiny_llama()
    choose_trainable(model, 1)
    path = save_best(tmp_path, 7, marked(model, 7.0))
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    load_best(tmp_path, 7, marked(model, 1.0))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, frozen.get(name, torch.full_like(parameter, 7.0))), name
    data = bytearray((path / "trained.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "trained.safetensors").write_bytes(data)
    for step in (7, 8):
        with pytest.raises(ModelError, match=f"those of step {step}, are damaged or gone"):
            check_best(tmp_path, step)
    with pytest.raises(ModelError, match="damaged or gone"):
        load_best(tmp_path, 7, model)


def test_best_weights_stay_as_long_as_a_checkpoint_counts_on_them(tmp_path: Path) -> None:
    """A resume from either kept checkpoint finds the weights that were the best then."""
    model = tiny_llama()
    choose_trainable(model, 1)
    optimizer = make_optimizer(tiny_config("tiny"), pair_model(model))

    def checkpoint(step: int, best: int) -> None:
        save_checkpoint(
            tmp_path, step, model, optimizer, {}, validation={"step": best, "value": 1.0, "without": 0}
        )

    def there() -> set[str]:
        return {path.name for path in tmp_path.glob("best-*")}

    save_best(tmp_path, 1, model)
    save_best(tmp_path, 2, model)
    assert there() == {"best-2"}
    checkpoint(2, 2)
    save_best(tmp_path, 3, model)
    checkpoint(4, 3)
    save_best(tmp_path, 5, model)
    assert there() == {"best-2", "best-3", "best-5"}
    checkpoint(6, 5)  # the checkpoint of step 2 goes
    save_best(tmp_path, 7, model)
    assert there() == {"best-3", "best-5", "best-7"}
