"""The lock of a run directory among real processes: one works, others are told who; a dead one holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import Notes, pair_rows, save_tiny, step_metrics, tiny_config, write_rows

from penchant.errors import UsageError
from penchant.workflow.run_lock import run_lock
from penchant.workflow.train import train_run

# Waits for a line, tries, says how it went, and holds the lock until its standard input ends.
PROGRAM = """
import errno, fcntl, sys
from pathlib import Path
from penchant.errors import UsageError
from penchant.workflow.run_lock import run_lock
if sys.argv[2] == "no flock":
    def unknown(*_):
        raise OSError(errno.EOPNOTSUPP, "")
    fcntl.flock = unknown
print("ready", flush=True)
sys.stdin.readline()
try:
    with run_lock(Path(sys.argv[1]), lambda line: print(line, flush=True)):
        print("won", flush=True)
        sys.stdin.read()
except UsageError:
    print("refused", flush=True)
"""


def start(run: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(run), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def race(run: Path, how: str, count: int, *, took_over: bool) -> subprocess.Popen[str]:
    """Let processes try at once; exactly one wins, and is returned, still holding the lock."""
    processes = [start(run, how) for _ in range(count)]
    assert [heard(process) for process in processes] == ["ready"] * count
    for process in processes:
        tell(process)
    winners = []
    for process in processes:
        said = heard(process)
        if said.startswith("Taking over"):
            assert took_over
            said = heard(process)
        assert said in ("won", "refused")
        if said == "won":
            winners.append(process)
        else:
            process.communicate()
    assert len(winners) == 1
    return winners[0]


@pytest.mark.parametrize("how", ["flock", "no flock"])
def test_of_processes_that_start_together_exactly_one_wins(tmp_path: Path, how: str) -> None:
    """So it does when the one before was killed, and left its lock behind."""
    run = tmp_path / "run"
    winner = race(run, how, 4, took_over=False)
    winner.send_signal(signal.SIGKILL)
    winner.communicate()
    assert list(run.iterdir())
    winner = race(run, how, 4, took_over=True)
    winner.communicate()
    assert not [path for path in run.iterdir() if path.name != "run.lock" or how == "flock"]


@pytest.mark.faults
@pytest.mark.parametrize("how", ["flock", "no flock"])
def test_it_is_so_again_and_again(tmp_path: Path, how: str) -> None:
    for attempt in range(15):
        winner = race(tmp_path / "run", how, 6, took_over=attempt > 0)
        winner.send_signal(signal.SIGKILL)
        winner.communicate()


def test_a_run_is_refused_where_another_works_and_taken_over_where_it_was_killed(tmp_path: Path) -> None:
    """Nothing of the run that goes on is touched by the one that was refused."""
    config = tiny_config(save_tiny(tmp_path / "start"), train={"max_steps": 2})
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    run = tmp_path / "run"
    other = start(run, "flock")
    assert heard(other) == "ready"
    tell(other)
    assert heard(other) == "won"
    for resume in (False, True):
        with pytest.raises(UsageError, match=f"in use by process {other.pid} on "):
            train_run(config, data, run, resume=resume)
    assert [path.name for path in run.iterdir()] == ["run.lock"]
    other.kill()
    other.communicate()
    notes = Notes()
    assert len(step_metrics(train_run(config, data, run, reporter=notes).run)) == 2
    assert f"Taking over the lock of process {other.pid} " in "\n".join(notes.lines)
    with run_lock(run):  # the run has let go of it
        pass
