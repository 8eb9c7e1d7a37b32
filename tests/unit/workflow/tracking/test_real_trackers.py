"""The three trackers themselves, where they are installed: what they hold of a run is what the run has logged."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import Notes, StopAfter, pair_rows, save_tiny, tiny_config, write_rows
from tests.tracker_files import Rows, tensorboard_scalars, trackio_rows, wandb_rows

from penchant.errors import Stopped
from penchant.library.train import train
from penchant.workflow.stopping import Stopper
from penchant.workflow.tracking.afterwards import track_runs
from penchant.workflow.tracking.ledger import read_ledger
from penchant.workflow.tracking.tracked import tracked
from penchant.workflow.train import train_run

NAMES = ("trackio", "tensorboard", "wandb")
ROOT = Path(__file__).parents[4]
STEPS = 8


@pytest.fixture(params=NAMES)
def tracker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip(request.param)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2)  # none the less offline, as HF_HUB_OFFLINE says
    return request.param


@pytest.fixture
def task(tmp_path: Path) -> tuple[Any, Path]:
    """A configuration of eight steps with validation, and its data."""
    data = tmp_path / "data"
    data.mkdir()
    write_rows(data / "train.jsonl", pair_rows(16))
    write_rows(data / "test.jsonl", pair_rows(4, seed=1))
    return tiny_config(save_tiny(tmp_path / "model"), train={"checkpoint_every": 2, "evaluate_every": 4}), data


def held(run: Path, tracker: str) -> Rows:
    """Steps and figures, as the tracker's own files have them."""
    ledger = read_ledger(run, tracker)
    if tracker == "trackio":
        return trackio_rows("penchant", ledger.id)[2]
    if tracker == "wandb":
        (folder,) = (run / "tracking" / "wandb").glob("offline-run-*")
        return wandb_rows(folder)[2]
    rows = tensorboard_scalars(run / "tracking" / "tensorboard")
    return [(step, {tag: value}) for tag, points in rows.items() for step, value in points]


def column(run: Path, tracker: str, name: str) -> list[tuple[int, float]]:
    return [(step, figures[name]) for step, figures in held(run, tracker) if name in figures]


def logged(run: Path, file: str, name: str) -> list[tuple[int, Any]]:
    lines = [json.loads(line) for line in (run / file).read_text(encoding="utf-8").splitlines()]
    return [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]  # TensorBoard holds float32


def assert_whole(run: Path, tracker: str) -> None:
    assert column(run, tracker, "train/loss") == logged(run, "metrics.jsonl", "loss")
    assert column(run, tracker, "train/rewards/margins") == logged(run, "metrics.jsonl", "rewards/margins")
    assert column(run, tracker, "eval/loss") == logged(run, "validation.jsonl", "loss")


def test_a_run_is_there_while_it_runs_after_a_stop_and_after_a_resume(
    tracker: str, task: tuple[Any, Path], tmp_path: Path
) -> None:
    (config, data), run, notes, stopper = task, tmp_path / "mine", Notes(), Stopper()
    with pytest.raises(Stopped), tracked(StopAfter(stopper, 5), [tracker]) as reporter:
        train_run(config, data, run, reporter=reporter, stopper=stopper)
    assert column(run, tracker, "train/loss") == logged(run, "metrics.jsonl", "loss")
    assert len(column(run, tracker, "train/loss")) == 5
    shutil.rmtree(run / "checkpoints" / "step-5")  # as if it had been killed: step 5 is taken again
    with tracked(notes, [tracker]) as reporter:
        train_run(config, data, run, resume=True, reporter=reporter)
    assert_whole(run, tracker)
    assert len(column(run, tracker, "train/loss")) == STEPS
    assert f"{tracker}: " in notes.lines[-1]
    assert 'sent as "mine"' in notes.lines[-1]
    (again,) = track_runs([run], [tracker], reporter=notes, stopper=stopper)
    assert (again.records, again.failed) == (0, "")
    assert_whole(run, tracker)


def test_a_finished_run_is_sent_afterwards_with_its_configuration(
    tracker: str, task: tuple[Any, Path], tmp_path: Path
) -> None:
    (config, data), run = task, tmp_path / "mine"
    train_run(config, data, run)
    summary = {"reward_accuracy": 0.75, "reward_accuracy_interval": [0.5, 0.875]}
    (run / "eval" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (sent,) = track_runs([run], [tracker], reporter=Notes(), stopper=Stopper())
    assert (sent.records, sent.unsent, sent.failed) == (STEPS + 2 + 1, 0, "")
    assert_whole(run, tracker)
    if tracker == "trackio":
        name, told, rows = trackio_rows("penchant", read_ledger(run, tracker).id)
        assert (name, told["train.learning_rate"], rows[-1][1]["trained/reward_accuracy"]) == ("mine", 1e-3, 0.75)
    elif tracker == "wandb":
        (folder,) = (run / "tracking" / "wandb").glob("offline-run-*")
        told, figures, _ = wandb_rows(folder)
        assert (told.display_name, told.project, told.host) == ("mine", "penchant", "")
        assert (figures["trained/reward_accuracy"], figures["trained_interval/reward_accuracy_low"]) == (0.75, 0.5)
        assert {item.key for item in told.config.update} >= {"objective", "train", "run"}
    else:
        assert column(run, tracker, "trained/reward_accuracy") == [(STEPS, 0.75)]
    said = b"".join(path.read_bytes() for path in (run / "tracking").rglob("*") if path.is_file())
    assert b"0123456789abcdef" not in said
    if tracker != "wandb":  # whose own log names the folders that it works in
        assert str(tmp_path).encode() not in said


def test_the_library_tracks_too(tracker: str, task: tuple[Any, Path], tmp_path: Path) -> None:
    config, data = task
    trained = train(config.model.path, data, tmp_path / "mine", config=config, track=[tracker])
    assert_whole(trained.run, tracker)


def test_a_store_that_cannot_be_written_costs_the_run_nothing(
    tracker: str, task: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config, data), run, notes = task, tmp_path / "mine", Notes()
    wall = tmp_path / "wall"
    wall.write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("TRACKIO_DIR", str(wall))
    (run / "tracking").mkdir(parents=True)
    for name in ("tensorboard", "wandb"):
        (run / "tracking" / name).write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("WANDB_DIR", str(wall))
    with tracked(notes, [tracker]) as reporter:
        result = train_run(config, data, run, reporter=reporter)
    assert result.steps == STEPS
    if tracker == "wandb" and not [line for line in notes.lines if "are not there" in line]:
        pytest.skip("W&B found another place to write to")
    assert sum(line.startswith(f"Warning: {tracker}: ") for line in notes.lines) == 1
    assert f"penchant track {run} --to {tracker}" in notes.lines[-1]
    assert f"{STEPS + 2} records" in notes.lines[-1]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows what a process connects to")
def test_nothing_connects_to_another_machine(
    tracker: str, task: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the Hub may be reached and somebody is logged in; W&B's own program is seen as well."""
    (config, data), run, calls = task, tmp_path / "mine", tmp_path / "calls"
    train_run(config, data, run)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "WANDB_API_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(calls)]
    command += [sys.executable, "-m", "penchant", "track", str(run), "--to", tracker]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "records sent" in done.stdout
    addresses = re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', calls.read_text("utf-8"))
    assert {one or other for one, other in addresses} <= {"127.0.0.1", "::1"}


def test_the_packages_are_those_that_were_asked_for(tracker: str) -> None:
    assert importlib.import_module(tracker).__version__
