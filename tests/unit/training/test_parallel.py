"""Ways to share a model: how they are named, what they refuse, and what sharing comes to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.tiny import pair_model, random_groups, tiny_config, tiny_llama
from tests.together import in_processes
from torch.distributed.tensor import DTensor

from penchant.batching.packing import share_out
from penchant.errors import UsageError
from penchant.models.freeze import choose_trainable
from penchant.processes import joined, most, rank, told_by_all, total
from penchant.training.parallel import (
    ParallelMode,
    check_mode,
    gradient_norm,
    parse_mode,
    put_trained,
    share_model,
    trained_parameters,
    whole,
)


@pytest.mark.parametrize(
    ("text", "mode"),
    [("ddp", ParallelMode()), ("fsdp", ParallelMode("fsdp")), ("fsdp:4", ParallelMode("fsdp", 4))],
)
def test_a_mode_is_read_as_it_is_written(text: str, mode: ParallelMode) -> None:
    assert parse_mode(text) == mode
    assert str(mode) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("fspd", 'Did you mean "fsdp"?'),
        ("ddp:2", "names no way"),
        ("fsdp:0", "names no way"),
        ("fsdp+offload", "offloading are not offered"),
        ("tp:2", "Tensor parallelism"),
        ("", "names no way"),
    ],
)
def test_another_word_is_refused_with_what_there_is(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mode(text)
    assert hint in caught.value.what
    assert "fsdp:N" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"engine": {"compile": True}}, "engine.compile"),
        ({"train": {"optimizer": "adamw_8bit"}}, "adamw_8bit"),
        ({"monitor": {"generate_every": 2}}, "monitor.generate_every"),
    ],
)
def test_what_shards_do_not_allow_is_refused_by_name(sections: dict, named: str) -> None:
    config = tiny_config("tiny", **sections)
    with pytest.raises(UsageError) as caught:
        check_mode(ParallelMode("fsdp"), config)
    assert named in caught.value.what
    check_mode(ParallelMode(), config)  # whole models do


def _sharded() -> tuple[bool, list[float], float, float]:
    model = tiny_llama(seed=1)
    choose_trainable(model, None)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    scorer = pair_model(model, trunk_layers=0)
    share_model(scorer, ParallelMode("fsdp"))
    parameters = trained_parameters(scorer.model)
    in_shards = all(isinstance(value, DTensor) for value in parameters.values())
    same = all(torch.equal(whole(value.detach()), before[name]) for name, value in parameters.items())
    put_trained(scorer.model, {name: value + 1 for name, value in before.items()})
    moved = all(torch.equal(whole(value.detach()), before[name] + 1) for name, value in parameters.items())
    for value in parameters.values():
        value.grad = value.detach().clone()
    norm = float(gradient_norm([value.grad for value in parameters.values() if value.grad is not None]))
    expected = float(torch.nn.utils.get_total_norm([value + 1 for value in before.values()]))
    own = sum(value.to_local().numel() for value in parameters.values() if isinstance(value, DTensor))
    return in_shards and same and moved, [own], norm, expected


@pytest.mark.slow
def test_shards_hold_a_part_each_and_give_the_whole_back() -> None:
    found = in_processes(2, _sharded)
    total_size = sum(value.numel() for value in tiny_llama().parameters())
    assert all(fine for fine, *_ in found)
    assert sum(own[0] for _, own, *_ in found) == total_size
    for _, own, norm, expected in found:
        assert own[0] < 0.6 * total_size
        assert norm == pytest.approx(expected, rel=1e-6)


def _told() -> tuple[list[int], list[float], float, int]:
    counts = [2, 1]
    rows = torch.full((counts[rank()],), float(rank()))
    return told_by_all(rank()), joined(rows, counts).tolist(), float(total(torch.tensor(1.0))), most(rank())


def test_processes_tell_one_another_in_their_order() -> None:
    assert in_processes(2, _told) == [([0, 1], [0.0, 0.0, 1.0], 2.0, 1)] * 2


def test_alone_everything_is_what_one_has() -> None:
    rows = torch.arange(3.0)
    assert joined(rows, [3]) is rows
    assert (told_by_all("a"), most(4), float(total(torch.tensor(2.0)))) == (["a"], 4, 2.0)


def test_shares_are_nearly_even_and_none_is_empty() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(10, 500, size=64)]
    shares = share_out(lengths, 8)
    loads = [sum(lengths[place] for place in share) for share in shares]
    assert sorted(place for share in shares for place in share) == list(range(64))
    assert max(loads) <= 1.05 * sum(lengths) / 8
    assert all(share_out([1] * 8, 8))


def test_pairs_of_one_prompt_stay_together_while_there_are_prompts_enough() -> None:
    prompts = [1, 1, 1, 2, 2, 3, 3, 3]
    shares = share_out([10] * 8, 2, prompts)
    assert sorted(map(len, shares)) == [3, 5] or sorted(map(len, shares)) == [4, 4]
    assert all(
        len({prompts[place] for place in share} & {prompts[p] for p in other}) == 0
        for share, other in [(shares[0], shares[1])]
    )
    assert all(share_out([10] * 3, 3, [1, 1, 1]))  # fewer prompts than processes


def test_groups_are_scored_alike_by_one_and_by_two() -> None:
    from penchant.objective.score import score_groups

    groups = random_groups(9, seed=2)
    alone = score_groups(pair_model(tiny_llama(seed=1), trunk_layers=0), groups, micro_batch_tokens=80)
    for found in in_processes(2, _scored):
        for one, other in zip(alone, found, strict=True):
            for left, right in zip(one, other, strict=True):
                assert np.allclose(left.numpy(), right, rtol=0, atol=1e-5)


def _scored() -> list[list[np.ndarray]]:
    from penchant.objective.score import score_groups

    scores = score_groups(
        pair_model(tiny_llama(seed=1), trunk_layers=0), random_groups(9, seed=2), micro_batch_tokens=80
    )
    return [[response.numpy() for response in group] for group in scores]
