"""The process that sends a run to a tracker, as the run sees it: while it trains it is never waited for."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import DataError
from penchant.workflow.tracking.child import LAST_SECONDS
from penchant.workflow.tracking.environment import tracker_environment
from penchant.workflow.tracking.send import unsent

WAIT_SECONDS = 30.0  # for a tracker, when the run is over


@dataclass(frozen=True)
class Outcome:
    """What became of sending a run to a tracker.

    Attributes:
        run: The run directory.
        tracker: The tracker's name.
        records: Lines of logs that were sent, and one for the figures of the end.
        unsent: Lines of logs that the tracker does not have; None where nobody can say.
        name: What the tracker calls the run.
        look: A sentence with the command or address that shows it.
        failed: Why it ended early; empty when it did not.
    """

    run: Path
    tracker: str
    records: int = 0
    unsent: int | None = 0
    name: str = ""
    look: str = ""
    failed: str = ""


class TrackerProcess:
    """A process that sends a run to a tracker until `finish`.

    Args:
        run: The run directory.
        tracker: The tracker's name.
        warn: Told once when it fails, from a thread of its own.
        command: In place of the process's own, for tests.
    """

    def __init__(
        self,
        run: Path,
        tracker: str,
        warn: Callable[[str], None] = lambda _: None,
        *,
        command: list[str] | None = None,
    ) -> None:
        self._run, self._tracker, self._warn = run, tracker, warn
        self._said: dict[str, object] = {}
        module = [sys.executable, "-P", "-m", "penchant.workflow.tracking.child"]  # -P: no package of this folder
        try:
            self._process = subprocess.Popen(
                [*(command or module), str(run), tracker, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=tracker_environment(tracker, os.environ),
                start_new_session=True,  # Ctrl+C is for the run
                text=True,
            )
        except OSError as error:
            self._process = None
            self._fail(f"its process cannot be started ({error})")
            return
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                with contextlib.suppress(ValueError, TypeError):  # no object: not a word of ours
                    self._said |= json.loads(line)
        code = self._process.wait()
        if "failed" in self._said:
            self._fail(str(self._said["failed"]))
        elif "records" not in self._said:
            self._fail(f"its process ended with code {code}")

    def _fail(self, why: str) -> None:
        self._said["failed"] = why
        self._warn(why)

    def let_go(self) -> None:
        """Say that the run is over, without waiting."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self._process.stdin.close()

    def finish(self, seconds: float = WAIT_SECONDS) -> Outcome:
        """Say that the run is over, and wait until everything is sent; not longer than so many seconds."""
        self.let_go()
        late = False
        if self._process is not None:
            self._listener.join(seconds)
            late = self._listener.is_alive()
        said = dict(self._said)
        failed = str(said.get("failed", ""))
        if late and not failed:
            failed = f"still at it after {seconds:.0f} s; it goes on alone for {LAST_SECONDS} s at most"
        return Outcome(
            self._run,
            self._tracker,
            records=int(str(said.get("records", 0))),
            unsent=self._unsent() if failed else 0,
            name=str(said.get("name", "")),
            look=str(said.get("look", "")),
            failed=failed,
        )

    def _unsent(self) -> int | None:
        try:
            return unsent(self._run, self._tracker)
        except DataError:
            return None
