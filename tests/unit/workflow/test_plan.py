"""A plan is made without weights, of the micro-batches that the run will have, and the run grades it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import pair_rows, save_tiny, tiny_config, tiny_llama, write_rows

from penchant.config import Config
from penchant.errors import ModelError
from penchant.models.freeze import choose_trainable
from penchant.models.lora import Lora
from penchant.models.sizes import model_sizes, read_model_config
from penchant.workflow import plan as plan_module
from penchant.workflow import probe as probe_module
from penchant.workflow.grading import (
    Estimate,
    describe_grade,
    grade_prediction,
    steady_seconds,
    write_prediction,
)
from penchant.workflow.plan import available_bytes, plan_run
from penchant.workflow.train import train_run

# peft asks a model for an attribute that transformers has renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("start"), tiny_llama(layers=4, tied=True))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl", pair_rows(10))


def config_of(source: Path, **sections: dict[str, Any]) -> Config:
    sections = {"model": {"last_layers": 2}, "engine": {"micro_batch_tokens": 150}, **sections}
    return tiny_config(source, **sections)


def test_a_plan_reads_no_weights(tmp_path: Path, source: Path, pairs: Path) -> None:
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(b"stub" if file.suffix == ".safetensors" else file.read_bytes())
    with pytest.raises(ModelError):
        train_run(config_of(tmp_path), pairs, tmp_path / "run")
    stub, real = (plan_run(config_of(folder), data=pairs) for folder in (tmp_path, source))
    assert stub.sizes == real.sizes
    assert (stub.pairs, stub.steps, stub.micro_batches) == (real.pairs, real.steps, real.micro_batches)


def test_the_run_is_as_planned_and_grades_it(tmp_path: Path, source: Path, pairs: Path) -> None:
    config, out = config_of(source), tmp_path / "run"
    plan = plan_run(config, data=pairs, out=out)
    assert (plan.pairs, plan.steps) == (10, 5)
    train_run(config, pairs, out)
    facts = json.loads((out / "eval" / "training.json").read_text(encoding="utf-8"))
    assert (facts["steps"], facts["frozen_layers"]) == (plan.steps, plan.sizes.frozen_layers)
    assert (facts["parameters"], facts["trained_parameters"]) == (plan.sizes.total, plan.sizes.trained)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    graded = facts["plan"]
    assert graded["memory_bytes"]["measured"] == facts["peak_memory_bytes"]
    assert graded["step_seconds"]["measured"] == pytest.approx(steady_seconds(lines))
    assert graded["total_seconds"]["measured"] > facts["train_seconds"]
    for name, estimate in plan.estimates.items():
        found = graded[name]
        assert (found["value"], found["low"], found["high"]) == pytest.approx(
            (estimate.value, estimate.low, estimate.high)
        )
        assert found["held"] == (found["low"] <= found["measured"] <= found["high"])


@pytest.mark.parametrize("part", [{"last_layers": 2}, {}, {"last_layers": 1, "lora_rank": 2}])
def test_parts_are_those_of_the_real_model(source: Path, pairs: Path, part: dict[str, Any]) -> None:
    plan = plan_run(config_of(source, model=part), data=pairs)
    model = tiny_llama(layers=4, tied=True)
    rank = part.get("lora_rank")
    choose_trainable(model, part.get("last_layers"), None if rank is None else Lora(rank, 32.0, 0))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert plan.parts["weights"] + plan.parts["head of its own"] == 4 * whole
    assert (plan.parts["gradients"], plan.parts["AdamW's moments"]) == (4 * trained, 8 * trained)
    assert plan.stages["a step"] == sum(plan.parts.values()) >= plan.memory.low
    assert plan.disk["model"] == 4 * whole


@pytest.mark.slow
def test_micro_batches_are_those_that_training_forms(tmp_path: Path, source: Path, pairs: Path) -> None:
    """Tokens of each step of the first epoch, as the run's own metrics count them."""
    config = config_of(source, train={"epochs": 1.0})
    plan_run(config, data=pairs)
    seen: list[list[int]] = []
    make = plan_module.work_of

    def spied(*given: Any, **named: Any) -> Any:
        work = make(*given, **named)
        seen.append([load.tokens for load in work.loads])
        return work

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plan_module, "work_of", spied)
        plan = plan_run(config, data=pairs)
    train_run(config, pairs, tmp_path / "run")
    text = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    steps = [json.loads(line) for line in text.splitlines()]
    assert sum(step["pairs"] for step in steps) == 12  # the last step takes two of the next epoch
    first = sum(step["tokens"] for step in steps[:2])
    assert len(seen[0]) == plan.micro_batches > 3
    assert any(sum(seen[0][:count]) == first for count in range(len(seen[0])))


def test_intervals_are_in_order_and_hold_what_is_expected(source: Path, pairs: Path) -> None:
    plan = plan_run(config_of(source), data=pairs)
    for estimate in plan.estimates.values():
        assert 0 < estimate.low < estimate.value < estimate.high
    assert plan.total is not None
    assert plan.step is not None
    assert plan.total.value == pytest.approx(sum(plan.times.values()))
    assert plan.times["steps"] == pytest.approx(plan.steps * plan.step.value)
    assert all(plan.times[name] > 0 for name in ("reading", "before the first step", "files"))
    assert plan.times["validation"] == 0


@pytest.mark.slow
def test_more_epochs_take_more_steps_of_the_same_length(source: Path, pairs: Path) -> None:
    once = plan_run(config_of(source, train={"epochs": 1.0}), data=pairs)
    thrice = plan_run(config_of(source, train={"epochs": 3.0}), data=pairs)
    assert (once.steps, thrice.steps) == (3, 8)
    assert once.micro_batches == thrice.micro_batches


def test_without_data_lengths_are_assumed_and_it_says_so(source: Path) -> None:
    plan = plan_run(config_of(source, train={"max_steps": 3}))
    assert (plan.pairs, plan.steps) == (12, 3)
    assert any("No data was given" in note for note in plan.notes)


def test_a_vocabulary_too_large_for_the_probes_head_is_planned_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head is probed with fewer rows, so the pairs' ids must be brought within them."""
    monkeypatch.setattr(probe_module, "_HEAD_BYTES", 0)
    source = save_tiny(tmp_path / "start", tiny_llama(layers=4, tied=True, vocab_size=3000))
    plan = plan_run(config_of(source, train={"max_steps": 1}))
    assert plan.sizes.vocabulary == 3000
    assert plan.step is not None
    assert plan.step.value > 0


def test_what_does_not_fit_comes_with_remedies(source: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "available_bytes", lambda _: 10_000_000)
    plan = plan_run(config_of(source, engine={"micro_batch_tokens": 4096}), data=pairs)
    assert not plan.fits
    assert plan.step is not None
    told = " ".join(plan.notes)
    for remedy in ("engine.micro_batch_tokens=2048", "model.lora_rank=16", "model.last_layers=1"):
        assert remedy in told
    monkeypatch.setattr(plan_module, "available_bytes", lambda _: 1 << 50)
    assert plan_run(config_of(source), data=pairs).notes == ()


@pytest.mark.slow
def test_checkpoints_need_disk(source: Path, pairs: Path) -> None:
    plan = plan_run(config_of(source, train={"checkpoint_every": 2}), data=pairs)
    assert plan.disk["checkpoints"] == 3 * 12 * plan.sizes.trained
    assert "checkpoints" not in plan_run(config_of(source), data=pairs).disk


def test_there_is_memory_here() -> None:
    assert 1 << 20 < available_bytes("cpu") < 1 << 50


def estimates(value: float = 2.0) -> dict[str, Estimate]:
    return {name: Estimate.within(value, 0.5) for name in ("memory_bytes", "step_seconds", "total_seconds")}


MEASURED = {"memory_bytes": 3.0, "step_seconds": 3.1, "total_seconds": 1.2}


def test_an_interval_is_closed_and_relative() -> None:
    estimate = Estimate.within(3.0, 0.5)
    assert (estimate.low, estimate.high) == (2.0, 4.5)
    assert [estimate.holds(value) for value in (1.99, 2.0, 4.5, 4.51)] == [False, True, True, False]


def test_each_figure_is_graded(tmp_path: Path, source: Path) -> None:
    config = config_of(source)
    write_prediction(tmp_path, config, estimates(), {"pairs": 7})
    grade = grade_prediction(tmp_path, config, 7, MEASURED)
    assert grade is not None
    assert {name: found["held"] for name, found in grade.items()} == {
        "memory_bytes": True,
        "step_seconds": False,
        "total_seconds": False,
    }
    assert describe_grade(grade).startswith("Plan: 2.00 s a step (1.33 to 3.00), measured 3.10;")


def test_a_plan_of_something_else_is_not_graded(tmp_path: Path, source: Path) -> None:
    config = config_of(source)
    assert grade_prediction(tmp_path, config, 7, MEASURED) is None  # there is none
    write_prediction(tmp_path, config, estimates(), {"pairs": 7})
    assert grade_prediction(tmp_path, config, 8, MEASURED) is None
    assert grade_prediction(tmp_path, config_of(source, train={"seed": 3}), 7, MEASURED) is None
    (tmp_path / "plan.json").write_text("{", encoding="utf-8")
    assert grade_prediction(tmp_path, config, 7, MEASURED) is None


def test_the_first_step_warms_up() -> None:
    assert steady_seconds([{"seconds": 9.0}, {"seconds": 1.0}, {"seconds": 2.0}]) == 1.5
    assert steady_seconds([{"seconds": 9.0}]) == 9.0


@pytest.mark.slow
def test_another_reference_is_planned(source: Path, pairs: Path, tmp_path: Path) -> None:
    """Alone in memory before the policy, and scored once; a larger one than the policy decides the peak."""
    large = save_tiny(tmp_path / "large", tiny_llama(layers=3, hidden_size=1024, intermediate_size=8192))
    alone = plan_run(config_of(source), data=pairs)
    both = plan_run(config_of(source, model={"last_layers": 2, "reference": str(large)}), data=pairs)
    weights = 4 * model_sizes(read_model_config(str(large)), None).total
    assert "scoring the reference" not in alone.stages
    assert both.memory.value == both.stages["scoring the reference"] > weights > both.parts["weights"]
    assert both.parts["weights"] == alone.parts["weights"]


def test_a_plan_of_a_run_that_validates_and_moves_its_reference(source: Path, pairs: Path) -> None:
    config = config_of(
        source,
        objective={"reference_every": 2},
        train={"evaluate_every": 2, "evaluate_data": str(pairs), "evaluate_pairs": 4, "optimizer": "rmsprop"},
    )
    plan = plan_run(config, data=pairs)
    assert (plan.held_out_pairs, plan.validations) == (4, 3)
    assert plan.times["validation"] > 0
    trained = 4 * plan.sizes.trained
    assert (plan.parts["reference that moves"], plan.parts["RMSprop's mean squares"]) == (trained, trained)
