"""Passes that a plan counts are passes that a run makes; what is validated on is counted, or assumed and said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import pair_rows, save_tiny, step_metrics, tiny_config, tiny_llama, write_rows

from penchant.config import Config
from penchant.errors import UsageError
from penchant.objective.pair_model import PairModel
from penchant.training import validation
from penchant.workflow.plan_start import read_start
from penchant.workflow.plan_work import Work, read_examples_of, work_of
from penchant.workflow.reporter import Advance, Reporter
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("start"), tiny_llama(layers=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "train.jsonl", pair_rows(16))
    write_rows(folder / "test.jsonl", pair_rows(9, seed=1))
    return folder


def config_of(source: Path, **sections: dict[str, Any]) -> Config:
    return tiny_config(source, **{"train": {"epochs": 1.0, "batch_pairs": 4}, **sections})


def work(config: Config, data: Path | None) -> Work:
    start = read_start(config.model, config.model.path)
    examples = read_examples_of(config, data, start, limit=None, reporter=Reporter(), stopper=Stopper())
    return work_of(config, examples, packed=True)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every pass through a model without gradient, as it is made."""
    seen: list[str] = []
    real = PairModel.forward

    def counted(*given: Any, ask: Any = "scores") -> Any:
        if ask != "trunk" and not torch.is_grad_enabled():
            seen.append(ask)
        return real(*given, ask=ask)

    monkeypatch.setattr(PairModel, "forward", counted)
    return seen


class Steps(Reporter):
    """Notes how many passes had been made when each step was reported."""

    def __init__(self, passes: list[str]) -> None:
        self.passes, self.counts = passes, list[int]()

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        def advance(count: int, **_: Any) -> None:
            if what == "Training":
                self.counts.append(len(self.passes))

        yield advance


@pytest.mark.parametrize(
    ("objective", "count"),
    [
        ({}, 0),
        ({"reference_every": 2}, 1),
        ({"loss": "aot"}, 1),
        ({"loss": "kto"}, 1),
        ({"wpo": True}, 2),
        ({"loss": "bco", "wpo": True, "reference_every": 1}, 3),
    ],
)
def test_passes_without_gradient_are_those_of_a_step(
    tmp_path: Path, source: Path, data: Path, passes: list[str], objective: dict[str, Any], count: int
) -> None:
    """Counted from the third step on: a step is reported while the next one's gradients exist already."""
    config = config_of(source, objective=objective)
    steps = Steps(passes)
    train_run(config, data, tmp_path / "run", reporter=steps)
    between = len(steps.counts) - 2
    assert between >= 2
    assert steps.counts[-1] - steps.counts[0] == count * between
    assert work(config, data).passes == count


@pytest.mark.parametrize(
    ("objective", "count"), [({}, 1), ({"loss": "aot"}, 2), ({"wpo": True}, 3), ({"loss": "sft"}, 1)]
)
def test_validations_and_their_passes_are_those_of_the_run(
    tmp_path: Path,
    source: Path,
    data: Path,
    passes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    objective: dict[str, Any],
    count: int,
) -> None:
    config = config_of(
        source,
        objective=objective,
        train={"epochs": 1.0, "batch_pairs": 4, "evaluate_every": 3, "evaluate_pairs": 6},
        engine={"micro_batch_tokens": 120},
    )
    planned = work(config, data)
    real, made = validation.validate, list[int]()

    def counted(*given: Any) -> Any:
        before = len(passes)
        found = real(*given)
        made.append(len(passes) - before)
        return found

    monkeypatch.setattr(validation, "validate", counted)
    train_run(config, data, tmp_path / "run")
    assert [line["step"] for line in step_metrics(tmp_path / "run")] == [1, 2, 3, 4]
    assert (len(made), planned.validations) == (2, 2)  # after the third step and after the last
    assert len(planned.held_out) > 1
    assert planned.validation_passes == count
    assert made == [count * len(planned.held_out)] * 2


def test_held_out_pairs_are_read_and_chosen_as_the_run_does(source: Path, data: Path) -> None:
    config = config_of(source, train={"evaluate_every": 1, "evaluate_pairs": 5})
    start = read_start(config.model, config.model.path)
    examples = read_examples_of(config, data, start, limit=8, reporter=Reporter(), stopper=Stopper())
    assert (len(examples.trained), len(examples.held_out), examples.notes) == (8, 5, ())
    found = work_of(config, examples, packed=True)
    assert found.tokens > sum(load.tokens for load in found.loads)
    assert work(config_of(source), data).held_out == []
    with pytest.raises(UsageError, match="held-out"):  # one file, of which nothing is held out
        work(config, data / "train.jsonl")


def test_without_data_as_many_pairs_are_held_out_as_there_may_be(source: Path) -> None:
    config = config_of(source, train={"evaluate_every": 10, "evaluate_pairs": 30, "epochs": 1.0})
    start = read_start(config.model, config.model.path)
    examples = read_examples_of(config, None, start, limit=None, reporter=Reporter(), stopper=Stopper())
    assert len(examples.held_out) == 30
    assert "30 held-out" in examples.notes[0]
    assert work(config, None).validations == 25


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_one_validation_comes_after_the_last_step(source: Path, steps: int) -> None:
    config = config_of(source, train={"evaluate_every": 2, "max_steps": steps})
    assert work(config, None).validations == {1: 1, 2: 1, 3: 2, 4: 2}[steps]


def test_assumed_pairs_are_what_the_objective_makes_of_them(source: Path) -> None:
    """KTO takes each pair apart; a mean over prompt and response scores the prompts."""
    plain, kto = (work(config_of(source, objective={"loss": loss}), None) for loss in ("dpo", "kto"))
    assert len(kto.pairs) == 2 * len(plain.pairs)
    scored = work(config_of(source, objective={"logps": "mean_all"}), None)
    assert scored.loads[0].rows == plain.loads[0].rows + 2 * 47 * len(scored.chunks[0])


def test_the_order_of_prompts_is_that_of_the_run(source: Path, tmp_path: Path) -> None:
    """Two pairs of a prompt share a step and its prompt, so a step has fewer tokens."""
    rows = [
        {**row, "prompt": f"the same long question number {at // 2}", "chosen": f"{'ab'[at % 2]} good {at}"}
        | {"rejected": f"{'cd'[at % 2]} bad {at}"}
        for at, row in enumerate(pair_rows(8))
    ]
    file = write_rows(tmp_path / "pairs.jsonl", rows)
    for order in ("pairs", "prompts"):
        config = config_of(source, train={"epochs": 1.0, "batch_pairs": 2, "order": order})
        train_run(config, file, tmp_path / order)
        measured = [line["tokens"] for line in step_metrics(tmp_path / order)]
        assert [load.tokens for load in work(config, file).loads] == measured
