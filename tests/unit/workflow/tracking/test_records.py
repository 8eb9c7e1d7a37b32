"""What of a run's logs trackers are told, and under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.written_runs import write_lines, write_object, write_run

from penchant.errors import DataError, UsageError
from penchant.workflow.tracking.ledger import Ledger, ledger_file, read_ledger, write_ledger
from penchant.workflow.tracking.records import RunLogs, final_figures, record_of
from penchant.workflow.tracking.subject import name_and_group, subject_of

LINE = {"step": 3, "epoch": 0.5, "loss": 0.6, "rewards/margins": 1.5, "learning_rate": 1e-5, "grad_norm": 2.0}


def test_a_line_has_the_names_that_trl_and_transformers_give() -> None:
    found = record_of("train", {**LINE, "skipped": True, "id": ["a"], "text": "x"})
    assert found is not None
    assert (found.part, found.step) == ("train", 3)
    assert found.figures == {
        "train/epoch": 0.5,
        "train/loss": 0.6,
        "train/rewards/margins": 1.5,
        "train/learning_rate": 1e-5,
        "train/grad_norm": 2.0,
        "train/global_step": 3.0,
    }


@pytest.mark.parametrize(
    ("part", "own", "theirs"),
    [
        ("train", "rewards/desirable", "train/rewards/chosen"),
        ("train", "logps/undesirable", "train/logps/rejected"),
        ("eval", "seconds", "eval/runtime"),
        ("eval", "loss", "eval/loss"),
        ("generations", "kl_per_token", "generations/kl_per_token"),
    ],
)
def test_names_that_differ(part: str, own: str, theirs: str) -> None:
    found = record_of(part, {"step": 1, own: 0.25})
    assert found is not None
    assert found.figures == {theirs: 0.25, "train/global_step": 1.0}


@pytest.mark.parametrize("line", [None, {}, {"step": "3", "loss": 1.0}, {"loss": 1.0}])
def test_what_is_no_record_is_passed_over(line: dict[str, Any] | None) -> None:
    assert record_of("train", line) is None


def test_logs_are_read_in_the_order_of_the_steps_and_anew_after_a_resume(tmp_path: Path) -> None:
    steps = [{"step": step, "loss": 0.5} for step in range(1, 5)]
    run = write_run(tmp_path / "run", steps=steps)
    write_lines(run / "validation.jsonl", [{"step": 2, "loss": 0.4}])
    write_lines(run / "generations.jsonl", [{"step": 0, "kl_per_token": 0.0}])
    logs = RunLogs(run)
    assert [(one.part, one.step) for one in logs.read()] == [
        ("generations", 0), ("train", 1), ("train", 2), ("eval", 2), ("train", 3), ("train", 4),
    ]  # fmt: skip
    assert logs.read() == []
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "loss": 0.3}\n{"step": 6, "lo')  # a line that is being written
    assert [one.step for one in logs.read()] == [5]
    (run / "metrics.jsonl").unlink()
    write_lines(run / "metrics.jsonl", steps[:2])
    assert [one.step for one in logs.read()] == [1, 2]


def test_final_figures_have_their_intervals(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert final_figures(run) == {}
    write_object(run / "eval" / "training.json", {"train_seconds": 9.5, "steps": 4, "findings": [], "plan": {}})
    summary = {
        "steps": 4,
        "reward_accuracy": 0.75,
        "reward_accuracy_interval": [0.5, 1.0],
        "fast": True,
        "style": "short",
    }
    write_object(run / "eval" / "summary.json", summary)
    assert final_figures(run) == {
        "trained_cost/train_seconds": 9.5,
        "trained_cost/steps": 4.0,
        "train/train_runtime": 9.5,
        "trained/reward_accuracy": 0.75,
        "trained_interval/reward_accuracy_low": 0.5,
        "trained_interval/reward_accuracy_high": 1.0,
    }


@pytest.mark.parametrize(
    ("path", "beside", "name", "group"),
    [
        ("runs/mine", "", "mine", None),
        ("runs/a/2-dpo", "", "a-2-dpo", "a"),
        ("runs/s/beta-0.1", "runs/s/sweep.json", "s-beta-0.1", "s"),
        ("runs/o/round-2/train", "runs/o/online.json", "o-round-2", "o"),
        ("runs/d/controls/demo-likelihood", "", "d-demo-likelihood", "d"),
        ("runs/train", "", "train", None),
    ],
)
def test_runs_that_belong_together_have_one_group(
    tmp_path: Path, path: str, beside: str, name: str, group: str | None
) -> None:
    run = tmp_path / path
    run.mkdir(parents=True)
    if beside:
        (tmp_path / beside).write_text("{}", encoding="utf-8")
    assert name_and_group(run) == (name, group)


def test_the_configuration_names_no_place_of_this_machine(tmp_path: Path) -> None:
    config = (
        "model:\n  path: /home/me/secret/models/base\n  train: [a, /home/me/secret/x/y]\nobjective:\n  beta: 0.1\n"
        "run:\n  data: /home/me/secret/pairs.jsonl\n  machine: mine\n  device: cpu\n  versions: {torch: '2.13'}\n"
    )
    subject = subject_of(write_run(tmp_path / "run", config=config))
    assert subject.flat_config() == {
        "model.path": "models/base",
        "model.train": "a, x/y",
        "objective.beta": 0.1,
        "run.versions.torch": "2.13",
        "run.device": "cpu",
    }
    with pytest.raises(UsageError, match="no run here"):
        subject_of(tmp_path)


def test_a_ledger_knows_what_is_new(tmp_path: Path) -> None:
    records = [found for step in range(4) if (found := record_of("train", {"step": step, "loss": 1.0}))]
    ledger = read_ledger(tmp_path, "trackio")
    assert ledger.new(records) == records
    ledger.add(records[:3])
    ledger.final = {"final/steps": 3.0}
    write_ledger(tmp_path, "trackio", ledger)
    again = read_ledger(tmp_path, "trackio")
    assert again == ledger
    assert again.new(records) == records[3:]
    assert again.new_final({"final/steps": 4.0, "final/x": 1.0}) == {"final/steps": 4.0, "final/x": 1.0}
    assert again.new_final({"final/steps": 3.0}) == {}
    again.rewind(1)
    assert again.new(records) == records[2:]
    again.forget()
    assert again.new(records) == records
    assert again.id == ledger.id
    assert Ledger().id != Ledger().id


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"id": "../../x", "name": "", "sent": {}, "final": {}}',
     '{"id": "0123abcd", "name": "", "sent": {"train": "x"}, "final": {}}'],
)  # fmt: skip
def test_a_ledger_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = ledger_file(tmp_path, "wandb")
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        read_ledger(tmp_path, "wandb")
