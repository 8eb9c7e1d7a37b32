"""Work that takes longer than a page may: done one by one in a thread, looked at by whoever asks."""

from __future__ import annotations

import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from penchant.errors import PenchantError

Work = Callable[[Callable[[str], None]], Any]


class Job:
    """A piece of work.

    Attributes:
        note: What it is doing, or "" before it begins.
        result: What came out; None before.
        error: Why nothing came out; "" otherwise.
        done: Set at its end.
    """

    def __init__(self) -> None:
        self.note, self.error, self.done = "", "", Event()
        self.result: Any = None

    @property
    def failed(self) -> bool:
        """Whether it has ended without a result."""
        return bool(self.error)

    def say(self, note: str) -> None:
        """Take down what is being done."""
        self.note = note


class Jobs:
    """Does jobs in a thread of its own, one after the other; for any thread.

    Args:
        name: Of the thread.
        keep: How many jobs are remembered.
    """

    def __init__(self, name: str, keep: int) -> None:
        self._name, self._keep = name, keep
        self._lock, self._queue = Lock(), SimpleQueue[tuple[Job, Work]]()
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._thread: Thread | None = None

    def find(self, key: Hashable) -> Job | None:
        """Return the job of a key, or None when none is remembered."""
        with self._lock:
            return self._jobs.get(key)

    def start(self, key: Hashable, work: Work) -> Job:
        """Return the job of a key, which is begun unless there is one that has not failed.

        Args:
            key: What the result depends on.
            work: Given something to tell its progress to; returns the result, and may raise anything.
        """
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.failed:
                job = self._jobs[key] = Job()
                self._queue.put((job, work))
                self._forget_old()
                if self._thread is None:  # ends with the process
                    self._thread = Thread(target=self._do, name=self._name, daemon=True)
                    self._thread.start()
            self._jobs.move_to_end(key)
            return job

    def _forget_old(self) -> None:
        old = [key for key, job in self._jobs.items() if job.done.is_set()]
        for key in old[: max(0, len(self._jobs) - self._keep)]:
            del self._jobs[key]

    def _do(self) -> None:
        while True:
            job, work = self._queue.get()
            try:
                job.result = work(job.say)
            except PenchantError as error:
                job.error = str(error)
            except Exception as error:  # a page says it, and the terminal where it happened
                traceback.print_exc(file=sys.stderr)
                job.error = f"A defect of Penchant: {type(error).__name__}: {error}"
            finally:
                job.done.set()
