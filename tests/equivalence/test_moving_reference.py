"""TR-DPO: a reference that follows the policy, against a whole second model; exact on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.textbook import dpo_loss
from tests.tiny import (
    StopAfter,
    largest_difference,
    pair_model,
    pair_rows,
    random_pairs,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.batching.packing import step_indices
from penchant.errors import Stopped
from penchant.models.freeze import choose_trainable
from penchant.models.lora import Lora
from penchant.objective.moving_reference import MovingReference
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.step import Trainer
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

PAIRS = random_pairs(16, seed=4)
SHARE = 0.6


def course(
    *, every: int, last_layers: int | None, tokens: int = 1 << 20, share: float = SHARE
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    config = tiny_config(
        "tiny",
        train={"learning_rate": 1e-2, "batch_pairs": 8, "max_steps": 4, "epochs": 9.0, "clip_norm": None},
        engine={"micro_batch_tokens": tokens},
    )
    model = tiny_llama(seed=2)
    part = choose_trainable(model, last_layers)
    scorer = pair_model(model, trunk_layers=part.frozen_layers)
    optimizer = make_optimizer(config, scorer)
    for group in optimizer.param_groups:
        group["eps"] = 1e-2
    moving = MovingReference(scorer, share=share, every=every)
    lines: list[dict[str, float]] = []
    trainer = Trainer(config, scorer, PAIRS, None, optimizer, TrunkCache(1 << 20), moving=moving)
    train(trainer, lambda _, line: lines.append(line))
    return {name: p.detach().clone() for name, p in model.named_parameters()}, lines


def textbook(*, every: int, share: float = SHARE) -> list[float]:
    """The losses of a plain script with two whole models: Gorbatovski et al. 2024, Eq. 3 and 4."""
    policy, reference = tiny_llama(seed=2), tiny_llama(seed=2)
    groups = [[p for p in policy.parameters() if p.ndim >= 2], [p for p in policy.parameters() if p.ndim < 2]]
    optimizer = torch.optim.AdamW(
        [{"params": g, "weight_decay": 0.0} for g in groups], betas=(0.9, 0.95), eps=1e-2
    )
    rates = [1e-2 * rate for rate in (1.0, 0.7, 0.4, 0.1)]
    losses = []

    for step, rate in enumerate(rates):
        indices = step_indices(step, count=len(PAIRS), batch=8, seed=0)
        loss = dpo_loss(policy, reference, [PAIRS[index] for index in indices])
        loss.backward()
        losses.append(float(loss.detach()))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % every == 0:
            with torch.no_grad():
                for own, other in zip(reference.parameters(), policy.parameters(), strict=True):
                    own.copy_((1 - share) * own + share * other)
    return losses


@pytest.mark.parametrize(("every", "share"), [(1, 0.6), (2, 1.0)])
def test_it_is_the_textbook_script(every: int, share: float) -> None:
    """Soft moves every step, and hard ones every second step."""
    _, lines = course(every=every, last_layers=None, share=share)
    expected = textbook(every=every, share=share)
    assert [line["loss"] for line in lines] == pytest.approx(expected, rel=2e-5)
    frozen = textbook(every=99)
    assert expected[-1] != pytest.approx(frozen[-1], rel=1e-3)


@pytest.mark.parametrize("last_layers", [None, 2])
def test_the_split_changes_nothing(last_layers: int | None) -> None:
    whole = course(every=1, last_layers=last_layers)
    apart = course(every=1, last_layers=last_layers, tokens=1)
    for left, right in zip(apart[1], whole[1], strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-6)
    for name, value in whole[0].items():
        assert largest_difference(apart[0][name], value) <= 1e-6, name


@pytest.mark.parametrize(
    "model",
    [{}, *(pytest.param(part, marks=pytest.mark.slow) for part in ({"last_layers": 1}, {"lora_rank": 2}))],
    ids=str,
)
def test_a_resumed_run_has_the_reference_where_it_was(model: dict[str, Any], tmp_path: Path) -> None:
    """Stopped after the third of six steps, one after a move: the bytes of the run without a stop."""
    source, data = save_tiny(tmp_path / "start"), write_rows(tmp_path / "pairs.jsonl", pair_rows(14))
    config = tiny_config(
        source, model=model, objective={"reference_every": 2, "reference_share": 0.5}, train={"max_steps": 6}
    )
    whole = train_run(config, data, tmp_path / "whole").run
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, tmp_path / "halved", stopper=stopper, reporter=StopAfter(stopper, 3))
    train_run(config, data, tmp_path / "halved", resume=True)
    assert step_metrics(tmp_path / "halved") == step_metrics(whole)
    for path in sorted((whole / "model").iterdir()):
        assert path.read_bytes() == (tmp_path / "halved" / "model" / path.name).read_bytes()
    still = tiny_config(source, model=model, train={"max_steps": 6})
    assert step_metrics(train_run(still, data, tmp_path / "still").run) != step_metrics(whole)


def test_the_policy_is_as_it_was_after_scoring() -> None:
    """Also when a pass fails half-way."""
    model = tiny_llama(seed=2)
    choose_trainable(model, None, Lora(2, 4.0, 0))
    scorer = pair_model(model)
    moving = MovingReference(scorer, share=1.0, every=1)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    with pytest.raises(AttributeError):
        moving.logps([([0], None)], TrunkCache(0))  # type: ignore[list-item]
    for name, p in model.named_parameters():
        assert p.data_ptr() == before[name][0]
        assert torch.equal(p, before[name][1])
