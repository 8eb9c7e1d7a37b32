"""A disk that fills up while a run goes on: what was saved stays whole, and the run ends only when it has to."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import Notes, StopAfter, pair_rows, save_tiny, step_metrics, tiny_config, write_rows

from penchant.config import Config
from penchant.errors import DiskError
from penchant.training.checkpoint import find_checkpoint
from penchant.training.telemetry import MetricsLog
from penchant.workflow import run_steps, train
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(12))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return tiny_config(save_tiny(tmp_path / "start"), train={"max_steps": 6, "checkpoint_every": 1})


def full_at(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Let the disk be full when the checkpoints of these steps are flushed."""
    save, flush = run_steps.save_checkpoint, os.fsync

    def saved(folder: Path, step: int, *rest: Any, **options: Any) -> Path:
        def no_room(descriptor: int) -> None:
            raise OSError(28, os.strerror(28))

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "fsync", no_room if step in steps else flush)
            return save(folder, step, *rest, **options)

    monkeypatch.setattr(run_steps, "save_checkpoint", saved)


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text(encoding="utf-8"))


def test_a_checkpoint_that_fails_is_told_and_the_run_goes_on(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice in a row, twice again after one that did not: the model is that of a run that met no full disk."""
    whole = train_run(config, data, tmp_path / "whole").run
    full_at(monkeypatch, {1, 2, 4, 5})
    notes = Notes()
    run = train_run(config, data, tmp_path / "run", reporter=notes).run
    assert [line.split(",")[0] for line in notes.lines if "no checkpoint" in line] == [
        f"Warning: step {step}: no checkpoint" for step in (1, 2, 4, 5)
    ]
    assert checkpoints(run) == ["step-3", "step-6"]
    weights = "model/model.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


def test_the_third_failure_in_a_row_ends_the_run(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 13, the older checkpoints as they were, nothing unfinished left; with room the run goes on."""
    whole = train_run(config, data, tmp_path / "whole").run
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        full_at(patched, {3, 4, 5, 6})
        with pytest.raises(DiskError) as caught:
            train_run(config, data, run)
    assert caught.value.exit_code == 13
    assert [line["step"] for line in step_metrics(run)] == [1, 2, 3, 4, 5]
    assert checkpoints(run) == ["step-1", "step-2"]
    assert find_checkpoint(run / "checkpoints").path == run / "checkpoints" / "step-2"
    found = status(run)
    assert (found["state"], found["exit_code"], found["step"]) == ("failed", 13, 2)
    train_run(config, data, run, resume=True)
    assert step_metrics(run) == step_metrics(whole)


def test_what_was_asked_to_stop_and_cannot_save_says_so(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no stop with everything saved: exit code 13, not 75."""
    full_at(monkeypatch, {2})
    stopper = Stopper()
    with pytest.raises(DiskError, match="step-2"):
        train_run(config, data, tmp_path / "run", stopper=stopper, reporter=StopAfter(stopper, 2))
    assert checkpoints(tmp_path / "run") == ["step-1"]


def test_a_line_that_does_not_fit_is_not_there(tmp_path: Path) -> None:
    """The system writes what still fits of it; the log stays one that can be read, and can be added to."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(DiskError):
            log.append({"step": 2, "loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert step_metrics(tmp_path) == [{"step": 1}]
    log.append({"step": 2})
    assert step_metrics(tmp_path) == [{"step": 1}, {"step": 2}]


def test_a_folder_without_permission_is_found_before_the_model_is_loaded(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "load_model", lambda *_, **__: pytest.fail("loaded"))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # to root every folder is open
    try:
        with pytest.raises(DiskError) as caught:
            train.run_lock(closed / "run").__enter__()
    finally:
        os.seteuid(before)
    assert caught.value.exit_code == 13
    assert list(closed.iterdir()) == []


# On a disk of 6 MB: while the run goes on, others fill it but for what a few lines need.
PROGRAM = """
import contextlib, json, os, sys
from pathlib import Path
from tests.tiny import Notes, step_metrics, tiny_config
from penchant.errors import DiskError
from penchant.training.checkpoint import find_checkpoint
from penchant.workflow.train import train_run

start, data, disk = map(Path, sys.argv[1:])
os.environ["PENCHANT_CACHE"] = str(disk / "cache")
config = tiny_config(start, train={"max_steps": 30, "epochs": 30.0, "checkpoint_every": 1})

class Filling(Notes):
    @contextlib.contextmanager
    def progress(self, what, total):
        def advance(count, **figures):
            if figures.get("step") == 5:
                file = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
                with contextlib.suppress(OSError):
                    while True:
                        os.write(file, bytes(4096))
                os.close(file)
                os.truncate(disk / "filler", (disk / "filler").stat().st_size - 65536)
        yield advance

notes, run = Filling(), disk / "run"
try:
    train_run(config, data, run, reporter=notes)
    code = 0
except DiskError as error:
    code = error.exit_code
steps = [line["step"] for line in step_metrics(run)]
kept = sorted(path.name for path in (run / "checkpoints").iterdir())
newest = find_checkpoint(run / "checkpoints").path.name
os.unlink(disk / "filler")
train_run(config, data, run, resume=True)
print(json.dumps([code, steps, kept, newest, len(step_metrics(run)), (run / "model").is_dir()]))
"""


@pytest.mark.faults
def test_on_a_real_disk_that_others_fill(tmp_path: Path) -> None:
    """A small tmpfs: three checkpoints fail, exit 13; the newest one verifies, and with room the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["unshare", "-rm", *mounted(disk, "true")], capture_output=True, check=False).returncode:
        # the tests above inject the same errors everywhere; only the kernel's own needs the right to mount
        pytest.skip("no tmpfs can be mounted here without privileges (unshare -rm)")
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(12))
    inner = [sys.executable, "-c", PROGRAM, str(save_tiny(tmp_path / "start")), str(data), str(disk)]
    root = Path(__file__).parents[2]
    command = ["unshare", "-rm", *mounted(disk, '"$@"'), "sh", *inner]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr
    code, steps, kept, newest, lines, model = json.loads(done.stdout)
    assert code == 13
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert kept == ["step-3", "step-4"]
    assert newest == "step-4"
    assert (lines, model) == (30, True)


def mounted(disk: Path, command: str) -> list[str]:
    return ["sh", "-c", f"mount -t tmpfs -o size=6m tmpfs '{disk}' && {command}"]
