"""What a resume says and does about damage and change, and what `verify-resume` finds."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file
from tests.tiny import Notes, StopAfter, pair_rows, save_tiny, step_metrics, tiny_config, tiny_llama, write_rows
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.config import Config
from penchant.errors import ModelError, PenchantError, Stopped, UsageError
from penchant.training.checkpoint_folder import MANIFEST, sha256_of
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run
from penchant.workflow.verify_resume import verify_resume

TRAIN: dict[str, Any] = {"max_steps": 6, "epochs": 4.0, "checkpoint_every": 2}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "start", tiny_llama(layers=2))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(12))


def configured(source: Path, **train: Any) -> Config:
    return tiny_config(source, train={**TRAIN, **train})


def stopped(config: Config, data: Path, run: Path, after: int) -> Path:
    """A run that was stopped after some steps."""
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, run, stopper=stopper, reporter=StopAfter(stopper, after))
    return run


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_step_back_is_said_loudly_and_ends_in_the_same_bytes(tmp_path: Path, source: Path, data: Path) -> None:
    """One bit of the optimizer's state is another one: the checkpoint before is taken, this one set aside."""
    config = configured(source)
    whole = train_run(config, data, tmp_path / "whole").run
    run = stopped(config, data, tmp_path / "run", 5)
    flip(run / "checkpoints" / "step-5" / "optimizer.safetensors")
    notes = Notes()
    train_run(config, data, run, resume=True, reporter=notes)
    warned = [line for line in notes.lines if line.startswith("Warning: ")]
    assert warned == [
        "Warning: step-5 is damaged (optimizer.safetensors has another SHA-256); stepping back to step-4"
    ]
    assert (run / "checkpoints" / "damaged-step-5").is_dir()
    assert step_metrics(run) == step_metrics(whole)
    assert contents(run / "model") == contents(whole / "model")


def test_times_of_files_that_were_reversed_change_nothing(tmp_path: Path, source: Path, data: Path) -> None:
    config = configured(source)
    whole = train_run(config, data, tmp_path / "whole").run
    run = stopped(config, data, tmp_path / "run", 5)
    for age, path in enumerate(sorted((run / "checkpoints").rglob("*"), key=lambda path: path.stat().st_mtime)):
        os.utime(path, (10**9 - age, 10**9 - age))
    notes = Notes()
    train_run(config, data, run, resume=True, reporter=notes)
    assert any("Resumed after step 5" in line for line in notes.lines)
    assert contents(run / "model") == contents(whole / "model")


def test_a_checkpoint_of_another_run_is_never_the_newest_of_this_one(
    tmp_path: Path, source: Path, data: Path
) -> None:
    """A run that left checkpoints and no figures: without --resume it is refused, nothing is thrown away."""
    run = stopped(configured(source), data, tmp_path / "run", 5)
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UsageError, match="a run here already"):
        train_run(configured(source), data, run)
    assert (run / "checkpoints" / "step-5").is_dir()


def test_a_harmless_change_is_allowed_by_name_and_written_down(tmp_path: Path, source: Path, data: Path) -> None:
    """Also by the checkpoints that follow, so that it outlives another resume; the figures stay the same."""
    config = configured(source)
    whole = train_run(config, data, tmp_path / "whole").run
    run = stopped(config, data, tmp_path / "run", 2)
    other = configured(source, checkpoint_every=3)
    with pytest.raises(ModelError, match=r"train.checkpoint_every: 2 -> 3") as caught:
        train_run(other, data, run, resume=True)
    assert "Harmless: --allow-change train.checkpoint_every" in str(caught.value)
    stopper, notes = Stopper(), Notes()
    with pytest.raises(Stopped):
        train_run(
            other,
            data,
            run,
            resume=True,
            allow_changes=["train.checkpoint_every"],
            stopper=stopper,
            reporter=StopAfter(stopper, 4),
        )
    train_run(other, data, run, resume=True, allow_changes=["train.checkpoint_every"], reporter=notes)
    assert "--allow-change train.checkpoint_every: it has not changed" in notes.lines
    facts = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["run"]
    change = {"key": "train.checkpoint_every", "was": 2, "now": 3, "after_step": 2}
    assert facts["allowed_changes"] == [change]
    assert step_metrics(run) == step_metrics(whole)
    saved = [contents(one / "model") for one in (run, whole)]
    cards = [files.pop("README.md") for files in saved]
    assert saved[0] == saved[1]
    assert cards[0] != cards[1]  # the card states the configuration, so also what was allowed to change


def test_the_command_allows_by_name(tmp_path: Path, source: Path, data: Path) -> None:
    """Exit code 4 with the list and what would be harmless; 0 when it is named; 2 for what would not be used."""
    run = stopped(configured(source), data, tmp_path / "run", 2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(configured(source, checkpoint_every=3).resolved()), encoding="utf-8")
    train = ["train", str(recipe), "--data", str(data), "--out", str(run), "--quiet"]
    runner = CliRunner()
    refused = runner.invoke(app, [*train, "--resume"])
    assert refused.exit_code == 4
    assert "train.checkpoint_every: 2 -> 3" in refused.stderr
    unused = runner.invoke(app, [*train, "--allow-change", "train.checkpoint_every"])
    assert unused.exit_code == 2
    assert "without --resume" in unused.stderr
    mistyped = runner.invoke(app, [*train, "--resume", "--allow-change", "train.checkpoints_every"])
    assert mistyped.exit_code == 2
    assert 'Did you mean "train.checkpoint_every"' in mistyped.stderr
    done = runner.invoke(app, [*train, "--resume", "--allow-change", "train.checkpoint_every"])
    assert done.exit_code == 0
    assert (run / "model" / "model.safetensors").is_file()


def test_a_run_cannot_be_cut_below_what_it_has_taken(tmp_path: Path, source: Path, data: Path) -> None:
    constant: dict[str, Any] = {"schedule": "constant", "warmup_fraction": None, "final_fraction": None}
    run = stopped(configured(source, **constant), data, tmp_path / "run", 5)
    with pytest.raises(UsageError, match="5 steps are taken already, and the run is to have 3"):
        train_run(
            configured(source, **constant, max_steps=3),
            data,
            run,
            resume=True,
            allow_changes=["train.max_steps"],
        )


def test_a_checkpoint_is_begun_when_the_figures_of_its_steps_are_on_the_disk(
    tmp_path: Path, source: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a loss of power would leave weights of steps whose figures are gone."""
    flush, flushed = os.fsync, []

    def recorded(descriptor: int) -> None:
        flush(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        lines = len(path.read_bytes().splitlines()) if path.name == "metrics.jsonl" else -1
        flushed.append((path, lines))

    monkeypatch.setattr(os, "fsync", recorded)
    train_run(configured(source), data, tmp_path / "run")
    for step in (2, 4, 6):
        own = [place for place, (path, _) in enumerate(flushed) if path.parent.name.startswith(f".step-{step}.")]
        assert ("metrics.jsonl", step) in [(path.name, lines) for path, lines in flushed[: own[0]]]


def test_another_machine_is_said(tmp_path: Path, source: Path, data: Path) -> None:
    """The same bits cannot be promised there."""
    config = configured(source)
    run = stopped(config, data, tmp_path / "run", 5)
    text = (run / "config.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["run"]["machine"] = "an abacus"
    (run / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    notes = Notes()
    train_run(config, data, run, resume=True, reporter=notes)
    assert any("machine: an abacus ->" in line and "not bit for bit" in line for line in notes.lines)


MODES = {
    "finished": ({}, {}, None),
    "stopped between checkpoints": ({}, {}, 5),
    "adapters, validated": ({"model": {"lora_rank": 2}}, {"evaluate_every": 3, "keep_best": "loss"}, None),
    "moving reference": ({"objective": {"reference_every": 2}}, {}, None),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_verifies_and_is_only_read(tmp_path: Path, source: Path, data: Path, mode: str) -> None:
    sections, train, stop = MODES[mode]
    folder = tmp_path / "pairs"
    folder.mkdir()
    write_rows(folder / "train.jsonl", pair_rows(12))
    write_rows(folder / "test.jsonl", pair_rows(6, seed=4))
    config = tiny_config(source, **{**sections, "train": {**TRAIN, **train}})
    run = tmp_path / "run"
    if stop is None:
        train_run(config, folder, run)
    else:
        stopped(config, folder, run, stop)
    before = contents(run)
    found = verify_resume(run)
    assert contents(run) == before
    last = stop or 6
    assert (found.first_step, found.last_step) == (5, last)
    checked = f"checkpoints/step-{last}: weights, optimizer, generators"
    assert checked in found.compared
    assert ("model/model.safetensors" in found.compared) == (stop is None)


def test_a_run_with_a_single_checkpoint_verifies_its_figures(tmp_path: Path, source: Path, data: Path) -> None:
    """Killed before the second one: what was logged since is compared."""
    run = stopped(configured(source), data, tmp_path / "run", 5)
    for step in (5,):
        for path in (run / "checkpoints" / f"step-{step}").iterdir():
            path.unlink()
    found = verify_resume(run)
    assert (found.first_step, found.last_step) == (5, 5)
    assert found.compared == ("metrics.jsonl, steps 5 to 5", "pairs.jsonl, steps 5 to 5")


def changed_figure(run: Path) -> str:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    last["grad_norm"] = math.nextafter(last["grad_norm"], math.inf)
    (run / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n", encoding="utf-8")
    return "metrics.jsonl, step 6, grad_norm"


def changed_state(run: Path) -> str:
    folder = run / "checkpoints" / "step-6"
    tensors = load_file(folder / "optimizer.safetensors")
    tensors["1.exp_avg"].view(-1)[0] += 1e-3
    save_file(tensors, folder / "optimizer.safetensors")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"]["optimizer.safetensors"]["sha256"] = sha256_of(folder / "optimizer.safetensors")
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return "step-6/optimizer.safetensors: taken once more, the run is not the same: 1.exp_avg"


def changed_model(run: Path) -> str:
    flip(run / "model" / "model.safetensors")
    return "model/model.safetensors"


@pytest.mark.parametrize("change", [changed_figure, changed_state, changed_model])
def test_what_is_not_the_same_is_named(tmp_path: Path, source: Path, data: Path, change: Any) -> None:
    """The last bit of a figure, one number of the optimizer's state, one bit of the model."""
    run = train_run(configured(source), data, tmp_path / "run").run
    expected = change(run)
    with pytest.raises(PenchantError) as caught:
        verify_resume(run)
    assert caught.value.exit_code == 1
    assert expected in str(caught.value)


def test_without_anything_to_replay_that_is_said(tmp_path: Path, source: Path, data: Path) -> None:
    run = train_run(configured(source, checkpoint_every=None), data, tmp_path / "run").run
    with pytest.raises(UsageError, match="nothing to replay"):
        verify_resume(run)
    with pytest.raises(UsageError):
        verify_resume(tmp_path / "nowhere")


def test_a_stop_by_the_user_is_no_verdict(tmp_path: Path, source: Path, data: Path) -> None:
    run = train_run(configured(source), data, tmp_path / "run").run
    stopper = Stopper()
    stopper.requested = True
    with pytest.raises(Stopped):
        verify_resume(run, stopper=stopper)
