"""The real command in real processes, without the seconds that importing torch takes: forked from one that has it.

`Warm` starts that process. Each command runs in a child of it, in a session of its own, as `python -m penchant`
would; it may be told to send itself a signal at a point that a test names, or to meet a fault there.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "penchant.workflow.train",
    "penchant.workflow.evaluate",
    "penchant.cli.main",
    "penchant.reporting.report",
    "matplotlib.backends.backend_svg",
    "pandas",  # which pyarrow loads when a ledger is written
)
FAULTS = {
    "raise": lambda: _raise(RuntimeError("a fault")),
    "enospc": lambda: _raise(OSError(28, os.strerror(28))),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


@dataclass(frozen=True)
class Done:
    """How a command ended: as a shell would say it, below zero when a signal ended it."""

    code: int
    out: str
    err: str


class Warm:
    """Starts commands quickly.

    Args:
        folder: Where what they print is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        command = [sys.executable, "-W", "ignore", "-m", "tests.warm"]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._ask({"ready": True})

    def close(self) -> None:
        """End the process that forks."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()

    def start(
        self,
        *words: object,
        point: str = "",
        what: str = "",
        patches: Sequence[str] = (),
        terminal: str = "",
        cwd: Path | None = None,
        before: str = "",
    ) -> int:
        """Start `penchant WORDS` and return its process id.

        Args:
            words: The command line.
            point: "module:name:n": at the n-th call of that function ...
            what: ... this happens first: a signal's name, or one of FAULTS.
            patches: "module:name:value" as JSON, set before it starts.
            terminal: Its controlling terminal, where it prints.
            cwd: Where it works, by default the root of the project.
            before: "module:function" of the tests, called before it starts.
        """
        self._count += 1
        request = {
            "words": [str(word) for word in words],
            "out": str(self._folder / f"{self._count}.out"),
            "err": str(self._folder / f"{self._count}.err"),
            "point": point,
            "what": what,
            "patches": list(patches),
            "terminal": terminal,
            "cwd": str(cwd or ROOT),
            "before": before,
            "environment": dict(os.environ),
        }
        return int(self._ask(request)["pid"])

    def wait(self, pid: int) -> Done:
        """Wait for the end of the command that was started last."""
        code = int(self._ask({"wait": pid})["code"])
        paths = [self._folder / f"{self._count}.{name}" for name in ("out", "err")]
        return Done(code, *(path.read_text(encoding="utf-8") if path.exists() else "" for path in paths))

    def printed(self) -> str:
        """Return what the command that was started last has said so far."""
        paths = [self._folder / f"{self._count}.{name}" for name in ("out", "err")]
        return "".join(path.read_text(encoding="utf-8") for path in paths if path.exists())

    def run(self, *words: object, **options: Any) -> Done:
        """Start a command and wait for its end."""
        return self.wait(self.start(*words, **options))

    def command(self, *words: object, code: int = 0, cwd: Path | None = None) -> Done:
        """Run a command offline, check how it ends, and that it shows no traceback."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("CUDA_VISIBLE_DEVICES", "")
            done = self.run(*words, cwd=cwd)
        assert done.code == code, done.err
        assert "Traceback" not in done.err
        return done

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def serve() -> None:
    """Fork a command for every line of standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no child has to look through what was imported when it collects
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "wait" in request:
            answer["code"] = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif "words" in request:
            answer["pid"] = os.fork() or _child(request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _child(request: dict[str, Any]) -> int:
    """Be the command; never returns."""
    code = 1
    try:
        os.setsid()
        out, err = (request["terminal"] or request[name] for name in ("out", "err"))
        for number, path in ((0, request["terminal"] or os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests themselves run under nohup
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        module = importlib.import_module("penchant.cli.main")
        sys.argv = ["penchant/__main__.py", *request["words"]]
        sys.orig_argv = [sys.executable, "-m", "penchant", *request["words"]]
        if request["before"]:
            where, name = request["before"].split(":")
            getattr(importlib.import_module(where), name)()
        for patch in request["patches"]:
            where, name, value = patch.split(":", 2)
            setattr(importlib.import_module(where), name, json.loads(value))
        if request["point"]:
            _arm(request["point"], request["what"])
        module.main()
        code = 0
    except Exception:
        traceback.print_exc()
    except KeyboardInterrupt:  # before the command listens
        code = 130
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _arm(point: str, what: str) -> None:
    where, name, count = point.split(":")
    module, left = importlib.import_module(where), int(count)
    function = getattr(module, name)

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and what in FAULTS:
            FAULTS[what]()
        elif left == 0:
            os.kill(os.getpid(), getattr(signal, what))
        return function(*args, **options)

    setattr(module, name, counted)


def _raise(error: BaseException) -> None:
    raise error


if __name__ == "__main__":
    serve()
