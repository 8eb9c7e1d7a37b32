"""What is no number never reaches the weights, and is told by name; a backward clock changes nothing."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import (
    Notes,
    pair_model,
    pair_rows,
    random_pairs,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.config import Config
from penchant.errors import NotFiniteError
from penchant.models.freeze import choose_trainable
from penchant.objective.logps import PairLogps
from penchant.objective.reference import reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.training import step
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.step import Trainer
from penchant.workflow.train import train_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(12))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return tiny_config(save_tiny(tmp_path / "start"), train={"max_steps": 6})


def poisoned(monkeypatch: pytest.MonkeyPatch, names: set[str], by: Any, *, from_step: int = 0) -> None:
    """Change the reference of some pairs, from a step on, and with it their loss."""
    stored = step.stored_reference

    def changed(trainer: Trainer, prepared: step.Prepared) -> PairLogps | None:
        found = stored(trainer, prepared)
        assert found is not None
        hit = torch.tensor([trainer.pairs[index].id in names for index in prepared.order])
        if prepared.step < from_step:
            return found
        return replace(found, chosen=torch.where(hit, by(found.chosen), found.chosen))

    monkeypatch.setattr(step, "stored_reference", changed)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf")])
def test_a_row_that_is_not_finite_is_named_where_the_run_can_be_found(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """All such pairs of the step stand in status.json, and the same again when it is resumed."""
    names = {"row-2", "row-7"}
    poisoned(monkeypatch, names, lambda chosen: torch.full_like(chosen, value), from_step=1)
    found = []
    for resume in (False, True):
        with pytest.raises(NotFiniteError) as caught:
            train_run(config, data, tmp_path / "run", resume=resume)
        assert caught.value.exit_code == 10
        status = json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))
        assert (status["state"], status["exit_code"]) == ("failed", 10)
        assert status["pairs"]
        assert set(status["pairs"]) <= names
        assert all(name in status["reason"] for name in status["pairs"])
        found.append((status["pairs"], status["reason"]))
    assert found[0] == found[1]
    assert not (tmp_path / "run" / "model").exists()


def test_a_learning_rate_beyond_all_bounds_leaves_the_weights_of_the_last_good_step(tmp_path: Path) -> None:
    """Bit for bit, and the optimizer's moments too."""
    config = tiny_config("tiny", train={"max_steps": 6, "learning_rate": 1e20, "warmup_fraction": 0.0})
    pairs, model = random_pairs(8), tiny_llama()
    choose_trainable(model, None)
    scorer = pair_model(model)
    reference = reference_logps(scorer, pairs, tmp_path, micro_batch_tokens=256).logps
    optimizer = make_optimizer(config, scorer)
    trainer = Trainer(config, scorer, pairs, reference, optimizer, TrunkCache(0))
    kept: list[dict[str, torch.Tensor]] = [
        {name: value.detach().clone() for name, value in model.named_parameters()}
    ]

    def on_step(_: int, __: dict[str, float]) -> None:
        kept.append({name: value.detach().clone() for name, value in model.named_parameters()})

    with pytest.raises(NotFiniteError):
        train(trainer, on_step)
    assert len(kept) > 1  # at least one step was good
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, kept[-1][name]), name
        assert bool(parameter.isfinite().all()), name
    for state in optimizer.state_dict()["state"].values():
        assert float(state["step"]) == len(kept) - 1
        assert all(bool(value.isfinite().all()) for value in state.values())


def test_a_spike_of_the_gradient_is_told_with_its_step_its_norm_and_its_pairs(
    tmp_path: Path, data: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From step 11 on one pair's loss has 10,000 times its slope: the first warning names it first."""
    long = config.model_copy(
        update={"train": config.train.model_copy(update={"max_steps": 14, "epochs": 10.0, "learning_rate": 1e-9})}
    )
    calm = Notes()
    train_run(long, data, tmp_path / "calm", reporter=calm)
    assert not [line for line in calm.lines if "gradient norm" in line]

    objective = step.pair_objective

    def steep(*args: Any) -> Any:
        made = objective(*args)
        steep.calls += 1  # type: ignore[attr-defined]
        return replace(made, weights=made.weights * 1e4) if steep.calls == 11 else made  # type: ignore[attr-defined]

    steep.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(step, "pair_objective", steep)
    notes = Notes()
    run = train_run(long, data, tmp_path / "run", reporter=notes).run
    [line] = [line for line in notes.lines if "gradient norm" in line]
    norm = step_metrics(run)[10]["grad_norm"]
    assert line.startswith(f"Warning: step 11: the gradient norm is {norm:.4g}, ")
    assert norm > 10 * step_metrics(run)[9]["grad_norm"]
    told = json.loads((run / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[10])
    named = line.rpartition("first: ")[2].split(", ")
    by_loss = sorted(zip(told["loss"], told["id"], strict=True), reverse=True)
    assert len(named) == 3
    assert set(named) <= {name for loss, name in by_loss if loss >= by_loss[2][0]}


def test_a_clock_that_runs_backwards_changes_nothing(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No decision and no duration is made of the time of day."""
    whole = train_run(config, data, tmp_path / "whole").run
    clock = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    run = train_run(config, data, tmp_path / "run").run
    assert step_metrics(run) == step_metrics(whole)
    weights = "model/model.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["seconds"] > 0 for line in lines)
