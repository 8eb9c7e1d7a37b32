"""Ctrl+C, SIGTERM and a closed terminal: the first asks to stop at a safe point, the second stops at once.

A process learns of a signal only between two of Python's own instructions, and the backward pass of a large
micro-batch is a single one of them. So a thread listens to the signals too: it answers the first at once, and ends
the process at the second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from penchant.errors import EXIT_BY_SIGNAL, Stopped
from penchant.workflow.reporter import Reporter

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# A launcher passes on what the terminal, or whoever ends a job, has sent to all of its processes already. Within
# this time a second signal is taken for the first one.
_SAME_REQUEST_SECONDS = 1.0
_LAUNCHED = "TORCHELASTIC_RUN_ID"  # torchrun sets it for the processes that it starts


class Stopper:
    """Whether someone asked to stop. Long parts call `check()`; what has something to save first asks `asked()`.

    Within `with`, in the main thread, SIGINT, SIGTERM and SIGHUP ask; a second one ends the process at once, with
    exit code 128 + its number (130 after Ctrl+C), as shells count.

    Args:
        command: What goes on from where a stop leaves things, as it would be typed.

    Attributes:
        requested: Whether this process was asked.
        command: See above.
    """

    def __init__(self, command: str | None = None) -> None:
        self.requested = False
        self.command = command
        self._before: dict[int, object] = {}
        self._listener: _Listener | None = None

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            self._listener = _Listener()
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # under nohup a closed terminal is to be survived
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def asked(self) -> bool:
        """Return whether someone asked to stop."""
        return self.requested

    def check(self) -> None:
        """Raise Stopped when someone asked to stop."""
        if self.asked():
            raise self.stopped("stopped; what was finished before is kept")

    def stopped(self, what: str, *, where: str | None = None) -> Stopped:
        """Return the error that ends the command, with the line that goes on from here."""
        again = "Run the same command again, with --resume if it has that option."
        return Stopped(what, where=where, fix=f"Go on with\n  {self.command}" if self.command else again)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


class _Listener:
    """A thread that hears of every signal when it comes, whatever the main thread is busy with."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        _LISTENING.append(self)

    def close(self) -> None:
        """Hear nothing more."""
        _LISTENING.remove(self)
        signal.set_wakeup_fd(self._before)
        os.close(self._write_end)
        self._thread.join()
        os.close(self._read_end)

    def forget(self) -> None:
        """Let a forked child be ended by signals as any process is, and not tell its parent of its own."""
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        os.close(self._write_end)
        os.close(self._read_end)

    def _listen(self) -> None:
        first: float | None = None
        while number := os.read(self._read_end, 1):
            if number[0] not in SIGNALS:
                continue
            if number[0] == signal.SIGHUP:
                self._leave_terminals()
            now = time.monotonic()
            if first is None:
                first = now
                _say("\nStopping at the next safe point; once more to stop at once.\n")
            elif now - first >= _same_request_seconds(number[0]):
                os._exit(EXIT_BY_SIGNAL + number[0])

    def _leave_terminals(self) -> None:
        """Write nowhere: on a terminal that is gone every line would be an error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for terminal in self._terminals:
            os.dup2(nowhere, terminal)
        os.close(nowhere)


_LISTENING: list[_Listener] = []


def _in_forked_child() -> None:
    for listener in _LISTENING:
        listener.forget()
    _LISTENING.clear()


os.register_at_fork(after_in_child=_in_forked_child)


def _same_request_seconds(number: int) -> float:
    """A person may press Ctrl+C twice as fast as they like; a launcher repeats it as well."""
    return 0.0 if number == signal.SIGINT and _LAUNCHED not in os.environ else _SAME_REQUEST_SECONDS


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())


@contextlib.contextmanager
def stoppable_progress(
    reporter: Reporter, stopper: Stopper, what: str, total: int
) -> Iterator[Callable[[int], None]]:
    """Follow a long part whose every report of progress is a safe point to stop: the body calls `done(count)`."""
    with reporter.progress(what, total) as advance:

        def done(count: int) -> None:
            stopper.check()
            advance(count)

        yield done
