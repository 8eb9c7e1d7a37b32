"""Runs that are killed: a process that has imported everything forks a child for each, so a kill costs no import.

Started as a program it reads a request a line and answers each with how its child ended. It has one thread, so
what a child inherits is whole. Tests use `ForkedRuns`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]


class ForkedRuns:
    """The forking process, as seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error::DeprecationWarning", str(Path(__file__).resolve())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ForkedRuns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)  # the end of its input is the end of its work

    def train(
        self,
        config: Any,
        data: Path,
        out: Path,
        *,
        resume: bool = False,
        failpoints: str = "",
        kill_after: float | None = None,
    ) -> int:
        """Train in a child and return its exit status: 0, an exit code, or -9 when it was killed.

        Args:
            config: The configuration.
            data: The pairs.
            out: The run directory; beside it lies a cache of its own.
            resume: See `penchant.workflow.train.train_run`.
            failpoints: See `penchant.failpoints`.
            kill_after: Seconds after which the child is killed from outside.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "config": config.resolved(),
            "data": str(data),
            "out": str(out),
            "resume": resume,
            "failpoints": failpoints,
            "kill_after": kill_after,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the forking process has ended"
        return int(answer)


def train_in_child(request: dict[str, Any]) -> int:
    """Run one training to its end; return the exit code that the command would have."""
    from penchant.config import build_config
    from penchant.errors import PenchantError
    from penchant.workflow.train import train_run

    out = Path(request["out"])
    os.environ["PENCHANT_CACHE"] = str(out.with_name(f"{out.name}-cache"))
    os.environ["PENCHANT_TEST"] = "1"
    os.environ["PENCHANT_FAILPOINTS"] = request["failpoints"]
    try:
        train_run(build_config(request["config"]), Path(request["data"]), out, resume=request["resume"])
    except PenchantError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def ended(child: int, kill_after: float | None) -> int:
    """Wait for a child, or kill it when its time is over; return its exit status."""
    deadline = time.monotonic() + (600 if kill_after is None else kill_after)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, 9)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.002)


def serve() -> None:
    """Answer requests until there are no more."""
    import penchant.workflow.train  # noqa: F401 - what every child needs is loaded once

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = train_in_child(request)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(ended(child, request["kill_after"]), flush=True)


if __name__ == "__main__":
    serve()
