"""`status.json` of a run directory: whether the run goes on, how it ended, and what goes on from there.

It is replaced as a whole when a part of the run begins, after every checkpoint and at the end. A process that is
killed cannot say so; then the file still says "running", and who holds the run's lock knows that nothing runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from penchant.data.atomic import disk_errors, write_json, write_text
from penchant.errors import EXIT_BY_SIGNAL, EXIT_DEFECT, DiskError, NotFiniteError, PenchantError, Stopped
from penchant.workflow.stopping import Stopper

STATUS_FILE, TRACEBACK_FILE = "status.json", "traceback.txt"

State = Literal["running", "stopped", "finished", "failed"]


class RunStatus:
    """Keeps `status.json` up to date; see `run_status`.

    Args:
        run: The run directory.
        stopper: Asked whenever a part of the run begins.
        silent: Write nothing before `speak`.
    """

    def __init__(self, run: Path, stopper: Stopper, *, silent: bool = False) -> None:
        self._run, self._stopper, self._silent = run, stopper, silent
        self._facts: dict[str, Any] = {
            "state": "running",
            "phase": "starting",
            "step": None,
            "total_steps": None,
            "exit_code": None,
            "reason": None,
            "resume": stopper.command,
            "folder": str(Path.cwd()),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "began": _now(),
            "memory_kills": memory_kills(),
        }

    def speak(self) -> None:
        """Write from here on; what an earlier process said of this run is no longer so.

        Raises:
            DiskError: There is no room or no permission to say it.
        """
        self._silent = False
        with disk_errors(self._run):
            (self._run / TRACEBACK_FILE).unlink(missing_ok=True)
        self._write()

    def begin(self, phase: str) -> None:
        """Say what the run does from here on. A safe point to stop.

        Raises:
            Stopped: Someone asked to stop.
            DiskError: There is no room or no permission to say it.
        """
        self._stopper.check()
        self._facts["phase"] = phase
        self._write()

    def after_step(self, step: int, total_steps: int) -> None:
        """Say how many optimizer steps are saved, of how many. A full disk is no reason to end the run here."""
        self._facts |= {"step": step, "total_steps": total_steps}
        with contextlib.suppress(DiskError):
            self._write()

    def finish(self) -> None:
        """Say that the run came to its end."""
        self._end("finished", 0)

    def fail(self, error: BaseException) -> None:
        """Say how the run ended. Of what is no `PenchantError` the traceback is written; a note says where."""
        reason, code = describe_error(error)
        if isinstance(error, NotFiniteError):
            self._facts["pairs"] = list(error.pairs)
        if not self._silent and not isinstance(error, PenchantError | KeyboardInterrupt):
            path = self._run / TRACEBACK_FILE
            with contextlib.suppress(DiskError):
                write_text(path, "".join(traceback.format_exception(error)))
                self._facts["traceback"] = TRACEBACK_FILE
                error.add_note(f"Its traceback is in {path}.")
        self._end("stopped" if isinstance(error, Stopped) else "failed", code, reason)

    def _end(self, state: State, code: int, reason: str | None = None) -> None:
        self._facts |= {"state": state, "exit_code": code, "reason": reason}
        if state == "finished":
            self._facts["resume"] = None
        with contextlib.suppress(DiskError):  # which would hide how the run ended
            self._write()

    def _write(self) -> None:
        if not self._silent:
            write_json(self._run / STATUS_FILE, {**self._facts, "updated": _now()})


@contextlib.contextmanager
def run_status(run: Path, stopper: Stopper, *, silent: bool = False) -> Iterator[RunStatus]:
    """Keep `status.json` of a run while the body runs, and say at its end how it ended.

    Args:
        run: The run directory, whose lock this process holds.
        stopper: Asked whenever a part of the run begins; its command is what goes on.
        silent: Write nothing before `RunStatus.speak`, so that a resume which is refused changes nothing.

    Raises:
        DiskError: There is no room or no permission to write there.
    """
    status = RunStatus(run, stopper, silent=silent)
    try:
        if not silent:
            status.speak()
        yield status
    except BaseException as error:
        status.fail(error)
        raise
    status.finish()


def describe_error(error: BaseException) -> tuple[str, int]:
    """Return what an error says in one line, and the exit code that it ends the command with."""
    if isinstance(error, PenchantError):
        return f"{error.where}: {error.what}" if error.where else error.what, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_BY_SIGNAL + signal.SIGINT
    return f"{type(error).__name__}: {error}", EXIT_DEFECT


def describe_kill(run: Path) -> str | None:
    """Return one line when the last process in a run directory ended without a word: it was killed.

    To be asked by who holds the run's lock, before it writes a status of its own. None when it did end, or there
    was none.
    """
    try:
        status = json.loads((run / STATUS_FILE).read_text(encoding="utf-8"))
        if status["state"] != "running":
            return None
        before = status["memory_kills"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = memory_kills()
    step = _last_step(run / "metrics.jsonl")
    when = f"after step {step}" if step else f"before its first step ({status.get('phase')})"
    line = f"The run before this one was killed {when}"
    if before is None or now is None or now <= before:
        return f"{line}, or its machine went down"
    return f"{line}; memory? The system has killed a process here since it began because memory was short"


def memory_kills() -> int | None:
    """Return how many processes of this control group were killed for memory so far; None where nobody counts."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            for path in _counters(controllers, group.lstrip("/")):
                if (count := _oom_kills(path)) is not None:
                    return count
    return None


def _counters(controllers: str, group: str) -> list[Path]:
    """Where the count may stand: seen from inside of a container, its own group is the root."""
    root = Path("/sys/fs/cgroup")
    if "memory" in controllers.split(","):  # version 1
        return [root / "memory" / group / "memory.oom_control", root / "memory" / "memory.oom_control"]
    return [root / group / "memory.events", root / "memory.events"] if not controllers else []


def _oom_kills(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None


def _last_step(metrics: Path) -> int | None:
    """The step of the last whole line; a kill may have torn the last one."""
    with contextlib.suppress(OSError):
        for line in reversed(metrics.read_text(encoding="utf-8", errors="replace").splitlines()):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return int(json.loads(line)["step"])
    return None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
