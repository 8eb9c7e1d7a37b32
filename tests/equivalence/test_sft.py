"""Likelihood training: the mean over a step's tokens, however it is split, laid out, cached or interrupted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.counted import Counted
from tests.tiny import (
    END,
    StopAfter,
    largest_difference,
    pair_model,
    pair_rows,
    random_ids,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)
from torch.nn.functional import cross_entropy

from penchant.batching.packing import step_indices
from penchant.errors import Stopped
from penchant.models.freeze import choose_trainable
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.schedule import learning_rate
from penchant.training.step import Trainer
from penchant.types import TokenizedPair
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

INVARIANT = 1e-6
FED = 14  # tokens that each example is fed: long responses follow short prompts


def examples(count: int = 24) -> list[TokenizedPair]:
    """Responses of 1 to 9 tokens, all examples of one length."""
    coin = random.Random(5)
    made = []
    for index in range(count):
        response = (*random_ids(coin, 0, 8), END)
        length = FED + 1 - len(response)
        made.append(TokenizedPair(f"{index}", random_ids(coin, length, length), response, ()))
    return made


EXAMPLES = examples()
Course = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


def trained(pairs: list[TokenizedPair] = EXAMPLES, *, sharing: bool = True, **sections: dict[str, Any]) -> Course:
    """Three steps of eight examples on the tiny model: its weights and the metrics of every step."""
    sections["train"] = {"learning_rate": 1e-4, "batch_pairs": 8, "max_steps": 3, "weight_decay": 0.1}
    config = tiny_config("tiny", **{"objective": {"loss": "sft"}, **sections})
    model = tiny_llama(seed=2)
    choose_trainable(model, None)
    scorer = pair_model(model, prefix_sharing=sharing)
    lines: list[dict[str, float]] = []
    trainer = Trainer(config, scorer, pairs, None, make_optimizer(config, scorer), TrunkCache(0))
    train(trainer, lambda _, line: lines.append(line))
    return {name: value.detach().clone() for name, value in model.named_parameters()}, lines


def assert_same_course(one: Course, other: Course) -> None:
    for name, value in other[0].items():
        assert largest_difference(one[0][name], value) <= INVARIANT, name
    for left, right in zip(one[1], other[1], strict=True):
        assert left.keys() == right.keys()
        for name in ("loss", "grad_norm", "logps/chosen", "pairs", "learning_rate"):
            assert left[name] == pytest.approx(right[name], rel=INVARIANT), name


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.mark.parametrize("logps", ["tokens", "mean", "sum"])
def test_a_step_is_the_same_as_one_two_or_eight_examples_at_a_time(counted: Counted, logps: str) -> None:
    """8 x 1, 4 x 2 and 1 x 8: the same loss, gradient norm and weights, though responses differ in length."""
    objective = {"loss": "sft", "logps": logps}
    courses = []
    for together in (1, 2, 8):
        courses.append(trained(objective=objective, engine={"micro_batch_tokens": together * FED}))
        assert counted.passes() == [2 * together] * (8 // together) * 3
    assert_same_course(courses[0], courses[2])
    assert_same_course(courses[1], courses[2])


def test_padded_rows_train_like_the_packed_row() -> None:
    assert_same_course(trained(sharing=False, engine={"micro_batch_tokens": 2 * FED}), trained())


def test_the_chosen_side_of_pairs_trains_like_the_pairs() -> None:
    """A rejected response that is computed, and counts for nothing, changes nothing but the cost."""
    coin = random.Random(6)
    pairs = [replace(example, rejected_ids=random_ids(coin, 1, 9)) for example in EXAMPLES]
    whole, alone = trained(pairs), trained()
    assert_same_course(alone, whole)
    assert sum(line["tokens"] for line in alone[1]) < sum(line["tokens"] for line in whole[1])


def test_it_is_the_plain_script_of_cross_entropy() -> None:
    """Three steps equal a textbook script: the mean cross-entropy of all response tokens of the step, AdamW."""
    weights, lines = trained()
    config = tiny_config("tiny", train={"learning_rate": 1e-4, "batch_pairs": 8, "max_steps": 3}).train
    model = tiny_llama(seed=2)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(config.adam_beta1, config.adam_beta2))
    for step, line in enumerate(lines):
        scores, targets = [], []
        for index in step_indices(step, count=len(EXAMPLES), batch=8, seed=0):
            pair = EXAMPLES[index]
            ids = torch.tensor([pair.prompt_ids + pair.chosen_ids])
            scores.append(model(input_ids=ids, use_cache=False).logits[0, len(pair.prompt_ids) - 1 : -1])
            targets.append(ids[0, len(pair.prompt_ids) :])
        loss = cross_entropy(torch.cat(scores), torch.cat(targets))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step, 3)
        optimizer.step()
        optimizer.zero_grad()
        assert line["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert line["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
        assert {"rewards/chosen", "rewards/margins", "logps/rejected"}.isdisjoint(line)
    for name, parameter in model.named_parameters():
        assert largest_difference(weights[name], parameter.detach()) <= 1e-5, name


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Conversations of one and two questions."""
    rows = []
    for row in pair_rows(14):
        talk = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}]
        rows.append({"messages": talk if len(rows) % 2 else [*talk, {"role": "user", "content": "?"}, talk[1]]})
    return write_rows(tmp_path / "chats.jsonl", rows)


def weights_of(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("last_layers", [None, 1])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, chats: Path, last_layers: int | None) -> None:
    config = tiny_config(
        save_tiny(tmp_path / "start"),
        model={"last_layers": last_layers},
        data={"loss_turns": "all_assistant"},
        objective={"loss": "sft"},
        train={"max_steps": 5},
    )
    whole = train_run(config, chats, tmp_path / "whole").run
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, chats, tmp_path / "halved", stopper=stopper, reporter=StopAfter(stopper, 3))
    run = train_run(config, chats, tmp_path / "halved", resume=True).run
    assert step_metrics(run) == step_metrics(whole)
    assert weights_of(run) == weights_of(whole)
    lines = step_metrics(whole)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_frozen_layers_run_once_give_the_same_run(tmp_path: Path, chats: Path, counted: Counted) -> None:
    """Shared with later epochs through the store, or computed with everything else in every step."""
    source = save_tiny(tmp_path / "start")
    runs = []
    for sharing in (True, False):
        config = tiny_config(
            source,
            model={"last_layers": 1},
            objective={"loss": "sft"},
            train={"epochs": 2.0, "batch_pairs": 7},
            engine={"trunk_sharing": sharing},
        )
        runs.append(train_run(config, chats, tmp_path / str(sharing)).run)
        assert sum(counted.trunks()) == (2 * 14 if sharing else 0)
    for left, right in zip(*map(step_metrics, runs), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
