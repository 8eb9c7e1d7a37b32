"""Stages one after the other: each from the model before it, none done twice, none passed over that is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny import Notes, StopAfter, pair_rows, save_tiny, step_metrics, tiny_llama, write_rows

from penchant.errors import DataError, ModelError, Stopped, UsageError
from penchant.models.load import load_model
from penchant.recipes.stages import Stage, load_stages
from penchant.workflow import align
from penchant.workflow.align import align_run
from penchant.workflow.stopping import Stopper


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(8))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    values: dict[str, Any] = {
        "model": {"path": str(save_tiny(tmp_path / "start", tiny_llama(layers=2, tied=True))), "last_layers": 1},
        "data": {"max_tokens": 96},
        "train": {"learning_rate": 1e-3, "batch_pairs": 4, "epochs": 2.0, "checkpoint_every": 1},
        "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
        "stages": {"sft": {"objective": {"loss": "sft"}}, "dpo": {"objective": {"loss": "dpo"}}},
    }
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def stages(recipe: Path, *sets: str) -> list[Stage]:
    return load_stages(str(recipe), sets)


def model_bytes(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def config_of(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


def test_the_second_stage_starts_from_the_first_ones_model(tmp_path: Path, recipe: Path, data: Path) -> None:
    """Each leaves a whole run directory with a report; policy and reference of the second are one model."""
    notes = Notes()
    results = align_run(stages(recipe), data, tmp_path / "out", reporter=notes)
    sft, dpo = (result.run for result in results)
    assert (sft, dpo) == (tmp_path / "out" / "1-sft", tmp_path / "out" / "2-dpo")
    for run in (sft, dpo):
        assert {"config.yaml", "metrics.jsonl", "ledger.parquet", "report.html", "model", "eval"} <= {
            item.name for item in run.iterdir()
        }
    assert Path(config_of(dpo)["model"]["path"]) == (sft / "model").resolve()
    assert results[1].result is not None
    assert results[1].result.first["loss"] == pytest.approx(0.6931472, abs=1e-6)
    start, between, end = (
        load_model(str(path)).model.state_dict()["lm_head.weight"]
        for path in (tmp_path / "start", sft / "model", dpo / "model")
    )
    assert not start.equal(between)
    assert not between.equal(end)
    assert any("Stage 2 of 2, dpo" in line for line in notes.lines)


@pytest.mark.slow
def test_the_likelihood_may_have_data_of_its_own(tmp_path: Path, recipe: Path, data: Path) -> None:
    chats = write_rows(tmp_path / "chats.jsonl", [{"prompt": str(n), "completion": "moon"} for n in range(5)])
    align_run(stages(recipe), data, tmp_path / "out", sft_data=chats)
    pairs = [
        json.loads((tmp_path / "out" / name / "eval" / "training.json").read_text(encoding="utf-8"))["train_pairs"]
        for name in ("1-sft", "2-dpo")
    ]
    assert pairs == [5, 8]
    dpo_alone = [stage for stage in stages(recipe) if stage.name == "dpo"]
    with pytest.raises(UsageError, match="--sft-data is not used"):
        align_run(dpo_alone, data, tmp_path / "other", sft_data=chats)


@pytest.mark.parametrize(
    "steps", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)]
)
def test_a_stop_anywhere_resumes_to_the_same_bytes(tmp_path: Path, recipe: Path, data: Path, steps: int) -> None:
    """Within the first stage, right after it, within the second: what was finished is not done again."""
    whole = align_run(stages(recipe), data, tmp_path / "whole")
    out, stopper = tmp_path / "halved", Stopper()
    with pytest.raises(Stopped):
        align_run(stages(recipe), data, out, stopper=stopper, reporter=StopAfter(stopper, steps))
    before = (out / "1-sft" / "model" / "model.safetensors").stat().st_mtime_ns if steps >= 4 else None
    results = align_run(stages(recipe), data, out, resume=True)
    assert [result.result is None for result in results] == [steps >= 4, False]
    if before is not None:
        assert (out / "1-sft" / "model" / "model.safetensors").stat().st_mtime_ns == before
    for name, result in zip(("1-sft", "2-dpo"), whole, strict=True):
        assert step_metrics(out / name) == step_metrics(result.run)
        assert model_bytes(out / name) == model_bytes(result.run)
        assert (out / name / "report.html").is_file()


@pytest.fixture
def done(tmp_path: Path, recipe: Path, data: Path) -> Path:
    """A folder whose two stages are finished, but for what their reports say."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(align, "write_report", lambda run: (run / "report.html").write_text("", encoding="utf-8"))
        align_run(stages(recipe), data, tmp_path / "out")
    return tmp_path / "out"


def test_a_finished_recipe_is_passed_over_whole(done: Path, recipe: Path, data: Path) -> None:
    """And a report that is missing is written."""
    (done / "1-sft" / "report.html").unlink()
    files = {path: path.read_bytes() for path in done.rglob("*.safetensors")}
    results = align_run(stages(recipe), data, done, resume=True)
    assert [result.result for result in results] == [None, None]
    assert {path: path.read_bytes() for path in done.rglob("*.safetensors")} == files
    assert (done / "1-sft" / "report.html").is_file()


def test_without_resume_nothing_is_touched(done: Path, recipe: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="there is a run here already"):
        align_run(stages(recipe), data, done)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("sft.train.seed=3", "train.seed"),
        ("train.max_steps=2", "train.max_steps"),
        ("data.max_tokens=90", "data.max_tokens"),
    ],
)
def test_a_finished_stage_of_another_configuration_is_refused(
    done: Path, recipe: Path, data: Path, override: str, named: str
) -> None:
    """By the name of what differs; nothing is changed."""
    with pytest.raises(UsageError, match=f"something else: {named}") as caught:
        align_run(stages(recipe, override), data, done, resume=True)
    assert caught.value.where == str(done / "1-sft")


def test_a_finished_stage_of_other_data_is_refused(done: Path, recipe: Path, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other.jsonl", pair_rows(8, seed=9))
    with pytest.raises(UsageError, match="something else: the data"):
        align_run(stages(recipe), other, done, resume=True)


def test_a_second_stage_of_another_first_one_is_refused(done: Path, recipe: Path, data: Path) -> None:
    """The first stage is to be done again, so the second is of a model that is gone."""
    (done / "1-sft" / "eval" / "training.json").unlink()
    with pytest.raises(UsageError, match="begun before 1-sft was finished") as caught:
        align_run(stages(recipe), data, done, resume=True)
    assert caught.value.where == str(done / "2-dpo")


def test_a_kill_between_the_last_checkpoint_and_the_model_is_made_good(
    done: Path, recipe: Path, data: Path
) -> None:
    """All steps are done and saved, the model is not: it is written, from the checkpoint, as it was."""
    wanted, metrics = model_bytes(done / "2-dpo"), step_metrics(done / "2-dpo")
    for item in (done / "2-dpo" / "model").iterdir():
        item.unlink()
    (done / "2-dpo" / "model").rmdir()
    results = align_run(stages(recipe), data, done, resume=True)
    assert [result.result is None for result in results] == [True, False]
    assert model_bytes(done / "2-dpo") == wanted
    assert step_metrics(done / "2-dpo") == metrics


def test_a_run_that_begins_anew_does_not_look_finished(done: Path, recipe: Path, data: Path) -> None:
    """What an earlier run left there says nothing about the one that is stopped."""
    for path in ("metrics.jsonl", "checkpoints"):
        (done / "2-dpo" / path).rename(done / path)
    (done / "2-dpo" / "report.html").unlink()
    facts = done / "2-dpo" / "eval" / "training.json"
    model = done / "2-dpo" / "model"
    model.rename(done / "model")
    stopper = Stopper()
    with pytest.raises(Stopped):
        align_run(stages(recipe), data, done, resume=True, stopper=stopper, reporter=StopAfter(stopper, 1))
    (done / "model").rename(model)
    assert not facts.exists()
    results = align_run(stages(recipe), data, done, resume=True)
    assert results[1].result is not None


def test_what_the_second_stage_cannot_use_is_refused_before_the_first(tmp_path: Path, recipe: Path) -> None:
    """Examples where preferences are needed; a base model that the second is to train on a template."""
    chats = write_rows(tmp_path / "chats.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(DataError, match="not preference pairs"):
        align_run(stages(recipe), chats, tmp_path / "out")
    base = save_tiny(tmp_path / "base", tiny_llama(layers=2), template=False)
    pairs = write_rows(tmp_path / "pairs.jsonl", pair_rows(4))
    mixed = stages(recipe, f"model.path={base}", "sft.data.format=transcript")
    with pytest.raises(ModelError, match="no chat template"):
        align_run(mixed, pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
