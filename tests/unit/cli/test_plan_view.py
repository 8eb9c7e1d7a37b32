"""`penchant plan` on the command line: a table for people, JSON for machines, and exit code 0 either way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.tiny import pair_rows, save_tiny, tiny_llama, write_rows
from typer.testing import CliRunner, Result

from penchant.cli.main import app
from penchant.workflow import plan as plan_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    save_tiny(folder / "start", tiny_llama(layers=2))
    write_rows(folder / "pairs.jsonl", pair_rows(8))
    recipe = {
        "model": {"path": str(folder / "start")},
        "data": {"max_tokens": 96},
        "train": {"batch_pairs": 4, "max_steps": 2},
        "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


def plan(folder: Path, *words: object) -> Result:
    given = ["plan", folder / "tiny.yaml", "--data", folder / "pairs.jsonl", *words]
    return CliRunner().invoke(app, [str(word) for word in given])


def test_a_table_and_the_next_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = plan(folder, "--out", out, "--set", "train.seed=3")
    assert result.exit_code == 0, result.output
    for words in ("peak memory", "seconds a step", "total time", "weights", "90% interval", "It fits"):
        assert words in result.stdout
    said = " ".join(result.stdout.split())
    assert f"Next penchant train {folder}/tiny.yaml --data {folder}/pairs.jsonl --out {out}" in said
    assert said.endswith("--set train.seed=3")
    assert json.loads((out / "plan.json").read_text(encoding="utf-8"))["config"]["train"]["seed"] == 3


def test_json_alone_on_standard_output(folder: Path) -> None:
    found = json.loads(plan(folder, "--json", "--quiet").stdout)
    assert (found["pairs"], found["steps"], found["level"], found["fits"]) == (8, 2, 0.9, True)
    assert found["step_seconds"]["low"] < found["step_seconds"]["value"] < found["step_seconds"]["high"]


def test_what_does_not_fit_is_said_and_is_no_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "available_bytes", lambda _: 10_000_000)
    result = plan(folder)
    assert result.exit_code == 0
    assert "It may not fit" in result.stdout
    assert "model.lora_rank=16" in result.stdout.replace("\n", "")


def staged(folder: Path) -> Path:
    recipe = yaml.safe_load((folder / "tiny.yaml").read_text(encoding="utf-8"))
    recipe["stages"] = {"sft": {"objective": {"loss": "sft"}}, "dpo": {"objective": {"loss": "dpo"}}}
    (folder / "two.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return folder / "two.yaml"


@pytest.mark.slow
def test_a_recipe_of_stages_has_a_plan_of_each_and_a_total(folder: Path) -> None:
    words = ["plan", staged(folder), "--data", folder / "pairs.jsonl", "--sft-data", folder / "pairs.jsonl"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    for told in ("Stage 1 of 2, sft", "Stage 2 of 2, dpo", "All stages", "together", "Total time, 90% interval"):
        assert told in result.stdout
    said = " ".join(result.stdout.split())
    assert said.endswith(f"--out runs/mine --sft-data {folder}/pairs.jsonl")
    assert f"Next penchant align {folder}/two.yaml --data" in said
    found = json.loads(CliRunner().invoke(app, ["plan", str(staged(folder)), "--json", "--quiet"]).stdout)
    assert list(found["stages"]) == ["sft", "dpo"]


def test_data_for_stages_is_refused_where_there_are_none(folder: Path) -> None:
    result = plan(folder, "--sft-data", folder / "pairs.jsonl")
    assert result.exit_code == 2
    assert "--sft-data is not used" in result.output


def test_validation_and_time_by_part_are_shown(folder: Path) -> None:
    held_out = f"train.evaluate_data={folder / 'pairs.jsonl'}"
    result = plan(folder, "--set", "train.evaluate_every=1", "--set", held_out)
    assert result.exit_code == 0, result.output
    assert "2 validations on 8 held-out pairs" in " ".join(result.stdout.split())
    for words in ("Time", "validation"):
        assert words in result.stdout


def test_what_cannot_be_predicted_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "available_bytes", lambda _: 1000)
    result = plan(folder)
    assert result.exit_code == 0
    assert result.stdout.count("not predicted") == 3  # a step, the total, and why
