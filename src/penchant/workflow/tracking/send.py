"""Sending a run to one tracker: what is there, and what comes until someone says that it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penchant.workflow.tracking.ledger import Ledger, read_ledger, write_ledger
from penchant.workflow.tracking.records import Record, RunLogs, final_figures
from penchant.workflow.tracking.subject import subject_of
from penchant.workflow.tracking.tracker import REPLACES, Opener, Tracker


@dataclass
class Sent:
    """What was sent to a tracker.

    Attributes:
        records: Lines of the logs, and one for the figures of the end.
        name: What the tracker calls the run.
        look: A sentence with the command or address that shows it; empty when the tracker was not opened.
    """

    records: int = 0
    name: str = ""
    look: str = ""


class Sender:
    """Sends a run to one tracker, which is opened when there is something to send.

    Args:
        run: The run directory.
        tracker: The tracker's name.
        opener: How it is opened.
    """

    def __init__(self, run: Path, tracker: str, opener: Opener) -> None:
        self._run, self._name, self._opener = run, tracker, opener
        self._ledger: Ledger = read_ledger(run, tracker)
        self._logs = RunLogs(run)
        self._seen: list[Record] = []  # until the tracker is open, which may want all of them
        self._tracker: Tracker | None = None
        self._last = 0
        self.sent = Sent(name=self._ledger.name)
        self._begin()

    def _begin(self) -> None:
        self._seen = self._logs.read()
        self._last = max((record.step for record in self._seen), default=0)
        if self._name in REPLACES:
            self._ledger.rewind(self._last)

    def send(self) -> None:
        """Send what is new in the logs."""
        self._seen += self._logs.read()
        if not self._ledger.new(self._seen):
            return
        tracker = self._opened()
        records = self._ledger.new(self._seen)
        tracker.log(records)
        self._ledger.add(records)
        write_ledger(self._run, self._name, self._ledger)
        self._last = max(self._last, *(record.step for record in records))
        self.sent.records += len(records)
        self._seen = []

    def end(self) -> None:
        """Send what the run came to, as far as that is known and new, and close the tracker."""
        if self._ledger.new_final(final_figures(self._run)):
            tracker = self._opened()
            self.send()  # a tracker that holds nothing any more gets the rest too
            figures = self._ledger.new_final(final_figures(self._run))
            tracker.end(figures, self._last)
            self._ledger.final |= figures
            self.sent.records += 1
        self.close()

    def close(self) -> None:
        """Close the tracker, if it is open."""
        if self._tracker is not None:
            self._tracker.close()
            write_ledger(self._run, self._name, self._ledger)
            self._tracker = None

    def _opened(self) -> Tracker:
        if self._tracker is None:
            self._tracker = self._opener(subject_of(self._run), self._ledger)
            write_ledger(self._run, self._name, self._ledger)
            self.sent.name, self.sent.look = self._ledger.name, self._tracker.look
        return self._tracker


def unsent(run: Path, tracker: str) -> int:
    """Return how many lines of a run's logs a tracker was not sent.

    Raises:
        DataError: What says how many were cannot be read.
    """
    return len(read_ledger(run, tracker).new(RunLogs(run).read()))


def follow(sender: Sender, wait: Callable[[], bool]) -> None:
    """Send until the run is over.

    Args:
        sender: Of a run to a tracker.
        wait: Returns whether it is over; takes about as long as may pass before the next look.
    """
    over = False
    while not over:
        over = wait()
        sender.send()
    sender.end()
