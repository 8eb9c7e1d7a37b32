"""What watches a run: faults that it speaks of, healthy runs that it lets be, and the same after a resume."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import Notes, StopAfter, pair_rows, save_tiny, sentence, step_metrics, tiny_config, write_rows

from penchant.errors import Stopped
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "start")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(80))


def facts_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "eval" / "training.json").read_text(encoding="utf-8"))


def lines_of(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Pairs in which nothing tells the chosen response from the rejected one."""
    coin = random.Random(1)
    rows = [
        {
            "id": f"row-{index}",
            "prompt": f"{index}",
            "chosen": sentence(coin, 3, 6),
            "rejected": sentence(coin, 3, 6),
        }
        for index in range(160)
    ]
    return write_rows(tmp_path / "noise.jsonl", rows)


@pytest.fixture
def fluent(tmp_path: Path, source: Path, noise: Path) -> Path:
    """A model that has learnt the chosen responses: whatever moves it, they become less probable."""
    train = {"learning_rate": 1e-2, "batch_pairs": 8, "epochs": 4.0}
    return (
        train_run(tiny_config(source, objective={"loss": "sft"}, train=train), noise, tmp_path / "sft").run
        / "model"
    )


RUINOUS = {"learning_rate": 1e-2, "batch_pairs": 8, "epochs": 2.0}
HEALTHY = {"learning_rate": 2e-4, "batch_pairs": 8, "epochs": 4.0}


def test_a_ruinous_learning_rate_is_spoken_of_while_it_lasts_and_at_the_end(
    tmp_path: Path, fluent: Path, noise: Path
) -> None:
    config = tiny_config(fluent, train=RUINOUS, monitor={"generate_every": 10, "prompts": 8, "max_new_tokens": 12})
    notes = Notes()
    run = train_run(config, noise, tmp_path / "run", reporter=notes).run
    warnings = [line for line in notes.lines if line.startswith("Warning: ")]
    assert any("step " in line and "less probable" in line for line in warnings)
    assert any(
        "less probable" in line and "What usually helps: add a likelihood term" in line for line in warnings
    )
    facts = facts_of(run)
    assert {"displacement", "drift"} <= {finding["name"] for finding in facts["findings"]}
    worst = facts["worst_pairs"]
    assert [pair["chosen_log_ratio"] for pair in worst] == sorted(pair["chosen_log_ratio"] for pair in worst)
    assert worst[0]["chosen_log_ratio"] < 0
    assert worst[0]["chosen"].endswith("<|im_end|>")
    generations = lines_of(run / "generations.jsonl")
    assert [line["step"] for line in generations] == [0, 10, 20, 30, 40]
    assert generations[0]["kl_per_token"] == 0.0
    assert generations[-1]["kl_per_token"] > 0.5


def test_a_healthy_run_is_let_be(tmp_path: Path, source: Path, data: Path) -> None:
    """With a likelihood term the chosen responses rise, as they should."""
    config = tiny_config(
        source,
        train=HEALTHY,
        objective={"nll_weight": 1.0},
        monitor={"displacement_stop": 0.5, "generate_every": 40, "prompts": 8, "max_new_tokens": 12},
    )
    notes = Notes()
    run = train_run(config, data, tmp_path / "run", reporter=notes).run
    assert len(step_metrics(run)) == 40
    assert facts_of(run)["findings"] == []
    assert not [line for line in notes.lines if line.startswith("Warning: ")]


def test_a_run_ends_where_displacement_is_too_much(tmp_path: Path, fluent: Path, noise: Path) -> None:
    config = tiny_config(fluent, train=RUINOUS, monitor={"displacement_stop": 0.6})
    notes = Notes()
    result = train_run(config, noise, tmp_path / "run", reporter=notes)
    assert 10 <= result.steps < 40
    assert (result.run / "model").is_dir()
    assert any("the run ends here" in line for line in notes.lines)


@pytest.mark.slow
def test_labels_that_say_nothing_are_no_improvement(tmp_path: Path, source: Path, noise: Path) -> None:
    config = tiny_config(source, train={**HEALTHY, "epochs": 1.0})
    findings = facts_of(train_run(config, noise, tmp_path / "run").run)["findings"]
    assert [finding["name"] for finding in findings] == ["no_improvement"]


@pytest.mark.slow
def test_a_learning_rate_far_too_small_is_no_improvement(tmp_path: Path, source: Path, data: Path) -> None:
    config = tiny_config(source, train={**HEALTHY, "learning_rate": 1e-7})
    findings = facts_of(train_run(config, data, tmp_path / "run").run)["findings"]
    assert [finding["name"] for finding in findings] == ["no_improvement"]


@pytest.mark.slow
def test_a_reference_that_follows_hides_no_improvement(tmp_path: Path, source: Path, data: Path) -> None:
    """Every margin is then zero, by wish; that says nothing about the policy."""
    moving = {"reference_every": 1, "reference_share": 1.0}
    run = train_run(tiny_config(source, objective=moving, train=HEALTHY), data, tmp_path / "run").run
    assert {line["rewards/margins"] for line in step_metrics(run)} == {0.0}
    assert facts_of(run)["findings"] == []


def test_every_pair_is_on_record_and_a_resume_leaves_the_same_record(
    tmp_path: Path, source: Path, data: Path
) -> None:
    config = tiny_config(
        source,
        train={**HEALTHY, "epochs": 1.0},
        monitor={"generate_every": 3, "prompts": 8, "max_new_tokens": 8},
    )
    whole, broken = train_run(config, data, tmp_path / "whole").run, tmp_path / "broken"
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, broken, stopper=stopper, reporter=StopAfter(stopper, 5))
    train_run(config, data, broken, resume=True)
    for name in ("pairs.jsonl", "generations.jsonl"):
        assert lines_of(broken / name) == lines_of(whole / name), name
    record = lines_of(whole / "pairs.jsonl")
    seen = [name for line in record for name in line["id"]]
    assert len(seen) == len(set(seen)) == 80
    assert facts_of(broken)["findings"] == facts_of(whole)["findings"]


def test_watching_changes_no_number(tmp_path: Path, source: Path, data: Path) -> None:
    """Answers are drawn from the weights of the step, and nothing of it stays."""
    plain = tiny_config(source, model={"last_layers": 2}, train={**HEALTHY, "epochs": 1.0})
    watched = tiny_config(
        source,
        model={"last_layers": 2},
        train={**HEALTHY, "epochs": 1.0},
        monitor={"generate_every": 2, "prompts": 8, "max_new_tokens": 8},
    )
    one = train_run(plain, data, tmp_path / "plain").run
    other = train_run(watched, data, tmp_path / "watched").run
    assert step_metrics(one) == step_metrics(other)
    assert (one / "model" / "model.safetensors").read_bytes() == (
        other / "model" / "model.safetensors"
    ).read_bytes()
    assert not (one / "generations.jsonl").exists()


def test_a_loss_without_reference_keeps_no_pairs(tmp_path: Path, source: Path, data: Path) -> None:
    config = tiny_config(source, objective={"loss": "simpo"}, train={**HEALTHY, "epochs": 1.0})
    run = train_run(config, data, tmp_path / "run").run
    assert (run / "pairs.jsonl").read_text(encoding="utf-8") == ""
    assert facts_of(run)["worst_pairs"] == []
