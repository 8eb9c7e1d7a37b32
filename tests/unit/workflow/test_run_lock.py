"""One process at a time: who is refused, what is taken over. Real processes that race are among the faults."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from penchant.errors import DiskError, UsageError
from penchant.workflow import run_lock as module
from penchant.workflow.run_lock import LOCK_FILE, Holder, run_lock


@pytest.fixture(params=["flock", "no flock"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file that is the lock, on a file system with locks and on one without."""
    if request.param == "flock":
        return LOCK_FILE

    def unknown(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", unknown)
    return f"{LOCK_FILE}.owner"


def own(run: Path, name: str) -> Holder:
    """What this process writes."""
    with run_lock(run):
        return Holder(**json.loads((run / name).read_text(encoding="utf-8")))


def leave(run: Path, name: str, holder: Holder) -> None:
    """What a process that is gone has left."""
    (run / name).write_text(json.dumps(asdict(holder)), encoding="utf-8")


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_it_says_who_holds_it_and_is_gone_afterwards(tmp_path: Path, name: str) -> None:
    run = tmp_path / "deep" / "run"
    holder = own(run, name)
    assert (holder.pid, holder.host) == (os.getpid(), socket.gethostname())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", holder.since)
    assert holder.boot
    assert holder.born.isdigit()
    assert not [path for path in run.iterdir() if path.name == name]
    assert own(run, name).pid == holder.pid  # and can be taken again


def test_who_comes_second_is_refused_and_told_who_works_there(tmp_path: Path, name: str) -> None:
    with run_lock(tmp_path):
        holder = Holder(**json.loads((tmp_path / name).read_text(encoding="utf-8")))
        for _ in range(2):
            with pytest.raises(UsageError) as caught, run_lock(tmp_path):
                pytest.fail("two at once")
            assert caught.value.exit_code == 2
            assert f"process {os.getpid()} on {socket.gethostname()}, since {holder.since}" in str(caught.value)
            assert f"kill {os.getpid()}" in str(caught.value)
    with run_lock(tmp_path):
        pass


def test_an_error_inside_lets_go_of_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyError), run_lock(tmp_path):
        raise KeyError
    assert own(tmp_path, name).pid == os.getpid()


def test_that_of_a_dead_process_is_taken_over_with_a_line(tmp_path: Path, name: str, dead: int) -> None:
    leave(tmp_path, name, replace(own(tmp_path, name), pid=dead))
    notes: list[str] = []
    with run_lock(tmp_path, notes.append):
        assert json.loads((tmp_path / name).read_text(encoding="utf-8"))["pid"] == os.getpid()
    [note] = notes
    assert f"Taking over the lock of process {dead} on {socket.gethostname()}" in note
    assert [path.name for path in tmp_path.iterdir() if path.name != LOCK_FILE] == []


@pytest.mark.parametrize("change", [{"born": "1"}, {"boot": "another"}])
def test_a_process_id_that_was_used_again_is_not_its_holder(
    tmp_path: Path, name: str, change: dict[str, str]
) -> None:
    """It is this test's own, which lives: but it began at another time, or on another start of the machine."""
    leave(tmp_path, name, replace(own(tmp_path, name), **change))
    notes: list[str] = []
    with run_lock(tmp_path, notes.append):
        pass
    assert len(notes) == 1


def test_that_of_another_machine_is_refused_with_what_to_do(tmp_path: Path, name: str, dead: int) -> None:
    """Whether its process lives cannot be seen from here."""
    other = Holder(dead, "elsewhere", "2026-01-01 00:00:00 UTC", "another", "17")
    leave(tmp_path, name, other)
    with pytest.raises(UsageError, match=r"on elsewhere.*cannot be seen") as caught, run_lock(tmp_path):
        pytest.fail("taken")
    assert f"remove {tmp_path / name}" in str(caught.value)
    assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == asdict(other)


def test_a_container_of_the_same_machine_is_not_elsewhere(tmp_path: Path, name: str, dead: int) -> None:
    """Its host name is another after every restart."""
    leave(tmp_path, name, replace(own(tmp_path, name), pid=dead, host="4f2a"))
    with run_lock(tmp_path):
        pass


def test_a_file_that_is_not_readable_is_no_holder_where_the_system_has_locks(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("{", encoding="utf-8")
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_of_two_that_take_over_the_second_is_refused(
    tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks of the system: both have read that the holder is dead, and one is quicker."""

    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unknown)
    name = f"{LOCK_FILE}.owner"
    quicker = own(tmp_path, name)
    leave(tmp_path, name, replace(quicker, pid=dead))
    is_dead = module._is_dead

    def meanwhile(holder: Holder) -> bool:
        found = is_dead(holder)
        leave(tmp_path, name, quicker)
        return found

    monkeypatch.setattr(module, "_is_dead", meanwhile)
    with pytest.raises(UsageError, match=f"process {os.getpid()} "), run_lock(tmp_path):
        pytest.fail("taken")
    assert [path.name for path in tmp_path.iterdir() if path.name != LOCK_FILE] == [name]


def test_a_folder_that_cannot_be_written_is_a_disk_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError), run_lock(tmp_path / "file" / "run"):
        pytest.fail("taken")
