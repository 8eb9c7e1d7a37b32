"""What `status.json` says while a run goes on, when it ends, and of one that was killed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from penchant.errors import DiskError, NotFiniteError, Stopped, UsageError
from penchant.workflow import status as module
from penchant.workflow.status import describe_kill, memory_kills, run_status
from penchant.workflow.stopping import Stopper

COMMAND = "penchant train a --resume"


def told(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text(encoding="utf-8"))


def ended(run: Path, error: BaseException) -> dict[str, Any]:
    with pytest.raises(type(error)), run_status(run, Stopper(COMMAND)):
        raise error
    return told(run)


def test_a_run_says_where_it_is_and_that_it_came_to_its_end(tmp_path: Path) -> None:
    with run_status(tmp_path, Stopper(COMMAND)) as status:
        first = told(tmp_path)
        assert (first["state"], first["exit_code"], first["resume"]) == ("running", None, COMMAND)
        assert first["pid"] == os.getpid()
        status.begin("training")
        status.after_step(3, 10)
        now = told(tmp_path)
        assert (now["phase"], now["step"], now["total_steps"], now["state"]) == ("training", 3, 10, "running")
    last = told(tmp_path)
    assert (last["state"], last["exit_code"], last["reason"], last["resume"]) == ("finished", 0, None, None)


@pytest.mark.parametrize(
    ("error", "state", "code", "reason"),
    [
        (Stopped("stopped after step 3", where="runs/a"), "stopped", 75, "runs/a: stopped after step 3"),
        (UsageError("no room in memory", fix="Buy some."), "failed", 2, "no room in memory"),
        (KeyboardInterrupt(), "failed", 130, "interrupted"),
    ],
)
def test_how_a_run_ended_is_told(tmp_path: Path, error: BaseException, state: str, code: int, reason: str) -> None:
    found = ended(tmp_path, error)
    assert (found["state"], found["exit_code"], found["reason"]) == (state, code, reason)
    assert found["resume"] == COMMAND
    assert not (tmp_path / "traceback.txt").exists()


def test_a_defect_leaves_its_traceback_and_says_where(tmp_path: Path) -> None:
    error = ZeroDivisionError("no pairs")
    found = ended(tmp_path, error)
    assert (found["state"], found["exit_code"], found["traceback"]) == ("failed", 1, "traceback.txt")
    assert found["reason"] == "ZeroDivisionError: no pairs"
    text = (tmp_path / "traceback.txt").read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "test_status.py" in text
    assert error.__notes__ == [f"Its traceback is in {tmp_path / 'traceback.txt'}."]
    ended(tmp_path, UsageError("other"))  # a traceback is of the last run
    assert not (tmp_path / "traceback.txt").exists()


def test_the_pairs_that_were_not_finite_are_kept(tmp_path: Path) -> None:
    assert ended(tmp_path, NotFiniteError("step 3", pairs=["a", "b"]))["pairs"] == ["a", "b"]


def test_a_part_that_begins_is_a_safe_point_to_stop(tmp_path: Path) -> None:
    stopper = Stopper()

    def work() -> None:
        with run_status(tmp_path, stopper) as status:
            stopper.requested = True
            status.begin("training")
            pytest.fail("begun")

    with pytest.raises(Stopped):
        work()
    assert (told(tmp_path)["state"], told(tmp_path)["phase"]) == ("stopped", "starting")


def test_no_room_is_an_error_before_anything_is_done_and_hides_none_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise DiskError("No space left on device")

    def work() -> None:
        with run_status(tmp_path, Stopper()) as status:
            monkeypatch.setattr("penchant.workflow.status.write_json", full)
            status.after_step(1, 2)
            raise KeyError("the cause")

    with pytest.raises(KeyError):
        work()
    assert (told(tmp_path)["state"], told(tmp_path)["step"]) == ("running", None)
    with pytest.raises(DiskError), run_status(tmp_path, Stopper()):
        pytest.fail("begun")


def test_a_run_that_said_nothing_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "memory_kills", lambda: 4)
    assert describe_kill(tmp_path) is None
    manager = run_status(tmp_path, Stopper())
    manager.__enter__().begin("loading the model")
    assert describe_kill(tmp_path) == (
        "The run before this one was killed before its first step (loading the model), or its machine went down"
    )
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 12}\n{"ste', encoding="utf-8")
    assert "killed after step 12, or its machine" in str(describe_kill(tmp_path))
    monkeypatch.setattr(module, "memory_kills", lambda: 5)
    assert "killed after step 12; memory?" in str(describe_kill(tmp_path))
    monkeypatch.setattr(module, "memory_kills", lambda: None)
    assert "memory" not in str(describe_kill(tmp_path))
    manager.__exit__(None, None, None)
    assert describe_kill(tmp_path) is None


@pytest.mark.parametrize(
    ("membership", "counter", "text", "found"),
    [
        ("0::/jobs/7\n", "jobs/7/memory.events", "low 0\noom 3\noom_kill 2\n", 2),
        ("0::/jobs/7\n", "memory.events", "oom_kill 9\n", 9),  # as a container sees itself
        ("5:cpu:/\n4:memory:/a/b\n0::/\n", "memory/a/b/memory.oom_control", "under_oom 0\noom_kill 1\n", 1),
        ("0::/jobs/7\n", "other", "oom_kill 9\n", None),
        ("0::/jobs/7\n", "memory.events", "low 0\n", None),
    ],
)
def test_kills_for_memory_are_read_where_the_system_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, counter: str, text: str, found: int | None
) -> None:
    (tmp_path / "cgroup").write_text(membership, encoding="utf-8")
    (tmp_path / counter).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / counter).write_text(text, encoding="utf-8")

    def moved(path: str) -> Path:
        return tmp_path / "cgroup" if path == "/proc/self/cgroup" else tmp_path

    monkeypatch.setattr(module, "Path", moved)
    assert memory_kills() == found


def test_a_resume_that_is_refused_leaves_what_was_said_before(tmp_path: Path) -> None:
    """Until it is known that the run goes on, nothing is written, and an old traceback stays."""
    ended(tmp_path, ZeroDivisionError("no pairs"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refused() -> None:
        with run_status(tmp_path, Stopper(COMMAND), silent=True) as status:
            status.begin("loading the model")
            raise UsageError("other data")

    with pytest.raises(UsageError):
        refused()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with run_status(tmp_path, Stopper(COMMAND), silent=True) as status:
        status.speak()
        assert told(tmp_path)["state"] == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
