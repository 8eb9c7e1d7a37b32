"""Signals, kills and full disks: what is left is whole, and a resume goes on from it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import (
    StopAfter,
    loaded,
    pair_model,
    pair_rows,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.config import Config
from penchant.errors import DiskError, Stopped
from penchant.models.freeze import choose_trainable
from penchant.models.save import save_model
from penchant.training.checkpoint import find_checkpoint, save_checkpoint
from penchant.training.optimizer import make_optimizer
from penchant.workflow.reporter import Advance, Reporter
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "start")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(12))


@pytest.fixture
def config(source: Path) -> Config:
    return tiny_config(source, train={"max_steps": 5})


class SignalAfter(Reporter):
    """Sends this process a signal once so many steps are done."""

    def __init__(self, number: int, steps: int) -> None:
        self.number, self.left = number, steps

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        def advance(count: int, **_: Any) -> None:
            if what == "Training":
                self.left -= count
                if self.left == 0:
                    os.kill(os.getpid(), self.number)

        yield advance


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_at_a_safe_point(tmp_path: Path, config: Config, data: Path, number: int) -> None:
    """Exit code 75, a checkpoint of that step, the old handlers back, and a resume to the same end."""
    whole = train_run(config, data, tmp_path / "whole").run
    before = signal.getsignal(number)
    with Stopper() as stopper, pytest.raises(Stopped) as caught:
        train_run(config, data, tmp_path / "run", stopper=stopper, reporter=SignalAfter(number, 2))
    assert signal.getsignal(number) == before
    assert caught.value.exit_code == 75
    assert "step 2 of 5" in str(caught.value)
    assert "--resume" in str(caught.value)
    run = tmp_path / "run"
    assert find_checkpoint(run / "checkpoints").path == run / "checkpoints" / "step-2"
    train_run(config, data, run, resume=True)
    assert step_metrics(run) == step_metrics(whole)
    weights = "model/model.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


def test_a_stop_after_the_last_step_finishes_the_run(tmp_path: Path, config: Config, data: Path) -> None:
    """There is nothing to resume, so the model is written."""
    stopper = Stopper()
    train_run(config, data, tmp_path / "run", stopper=stopper, reporter=StopAfter(stopper, 5))
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_stop_while_the_reference_is_scored_is_no_run(tmp_path: Path, config: Config, data: Path) -> None:
    """The run names no reference yet; the same command starts again without --resume."""
    stopper = Stopper()
    stopper.requested = True
    run = tmp_path / "run"
    with pytest.raises(Stopped, match="what was finished before is kept"):
        train_run(config, data, run, stopper=stopper)
    assert not (run / "reference").exists()
    assert len(step_metrics(train_run(config, data, run).run)) == 5


KILLED = """
import sys
from pathlib import Path
from penchant.config import build_config
from penchant.workflow.train import train_run
import json
config, data, out = sys.argv[1:]
train_run(build_config(json.loads(config)), Path(data), Path(out))
"""


@pytest.mark.faults
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, source: Path, data: Path) -> None:
    """SIGKILL at a moment of no one's choosing, with a checkpoint every step; then resume."""
    config = tiny_config(source, train={"max_steps": 40, "epochs": 40.0, "checkpoint_every": 1})
    run = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, json.dumps(config.resolved()), str(data), str(run)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(run.glob("checkpoints/step-*")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "model").exists()
    train_run(config, data, run, resume=True)
    whole = train_run(config, data, tmp_path / "whole").run
    assert step_metrics(run) == step_metrics(whole)
    weights = "model/model.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the operating system refuse to let any file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@contextlib.contextmanager
def failing(name: str) -> Iterator[None]:
    """Let a call of the operating system say that no space is left."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, full)
        yield


FULL: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "no room to write": lambda: largest_file(1000),
    "no room to flush": lambda: failing("fsync"),
    "no room to rename": lambda: failing("replace"),
}


@pytest.mark.parametrize("how", FULL)
def test_a_checkpoint_that_does_not_fit_leaves_the_older_ones(tmp_path: Path, how: str) -> None:
    """A disk error; the older checkpoint is still the newest, and no unfinished folder stays."""
    model = tiny_llama()
    choose_trainable(model, 1)
    optimizer = make_optimizer(tiny_config("tiny"), pair_model(model))
    save_checkpoint(tmp_path, 1, model, optimizer, {})
    with FULL[how](), pytest.raises(DiskError) as caught:
        save_checkpoint(tmp_path, 2, model, optimizer, {})
    assert caught.value.exit_code == 13
    assert [item.name for item in tmp_path.iterdir()] == ["step-1"]
    assert find_checkpoint(tmp_path).path == tmp_path / "step-1"


@pytest.mark.parametrize("how", ["no room to write", "no room to rename"])
def test_a_model_that_does_not_fit_is_not_there(tmp_path: Path, how: str) -> None:
    """Neither half a model nor its temporary folder is left."""
    with FULL[how](), pytest.raises(DiskError):
        save_model(loaded(tiny_llama()), tmp_path / "model", card="")
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_a_disk_that_fills_up(tmp_path: Path, source: Path, data: Path) -> None:
    """The model does not fit at the end: a disk error, no half of it; with room the run goes on."""
    config = tiny_config(source, train={"max_steps": 5})
    run = tmp_path / "run"
    with largest_file(50_000), pytest.raises(DiskError, match="model"):
        train_run(config, data, run)
    assert [line["step"] for line in step_metrics(run)] == [1, 2, 3, 4, 5]
    assert not (run / "model").exists()
    train_run(config, data, run, resume=True)
    assert [line["step"] for line in step_metrics(run)] == [1, 2, 3, 4, 5]
    assert (run / "model" / "model.safetensors").is_file()


def test_too_little_room_is_said_before_hours_are_spent(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is scored, and the need is named."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(DiskError, match="GB free, but the run needs"):
        train_run(config, data, tmp_path / "run")
    assert not (tmp_path / "run" / "reference").exists()


def test_a_folder_that_may_not_be_written(tmp_path: Path, config: Config, data: Path) -> None:
    """A file stands where the run directory should be."""
    (tmp_path / "run").write_text("", encoding="utf-8")
    with pytest.raises(DiskError):
        train_run(config, data, tmp_path / "run")
    assert (tmp_path / "run").read_text(encoding="utf-8") == ""
