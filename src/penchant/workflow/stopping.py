"""Ctrl+C and SIGTERM: the first asks to stop at a safe point, the second Ctrl+C stops at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

from penchant.errors import EXIT_SECOND_INTERRUPT, Stopped


class Stopper:
    """Whether someone asked to stop. Long parts call `check()`; the training loop asks `requested`."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise Stopped when someone asked to stop."""
        if self.requested:
            raise Stopped("stopped; what was finished before is kept", fix="Run the same command again.")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(EXIT_SECOND_INTERRUPT)
        self.requested = True
        sys.stderr.write("\nStopping at the next safe point; once more to stop at once.\n")
