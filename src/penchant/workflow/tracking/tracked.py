"""Tracking of whatever runs a workflow makes: it hears where a run's logs lie, and starts who sends them."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from penchant.workflow.reporter import Advance, Reporter
from penchant.workflow.tracking.process import WAIT_SECONDS, Outcome, TrackerProcess

Start = type[TrackerProcess]


class TrackedReporter(Reporter):
    """Passes on all that it hears, and has the runs that begin sent to trackers; one run at a time.

    Args:
        reporter: Who hears notes and progress.
        trackers: Names, see `penchant.workflow.tracking.asked.trackers_of`.
        start: Starts the process that sends a run to a tracker.
    """

    def __init__(self, reporter: Reporter, trackers: Sequence[str], start: Start = TrackerProcess) -> None:
        self._reporter, self._trackers, self._start = reporter, trackers, start
        self._sending: list[TrackerProcess] = []

    def note(self, text: str) -> None:
        """Pass it on."""
        self._reporter.note(text)

    def warn(self, text: str) -> None:
        """Pass it on."""
        self._reporter.warn(text)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Pass it on."""
        with self._reporter.progress(what, total) as advance:
            yield advance

    def begin_steps(self, run: Path) -> None:
        """Have the logs of this run sent from now on; the run before it is over."""
        self.finish()
        self._sending = [
            self._start(run.resolve(), tracker, partial(self._warn, run, tracker)) for tracker in self._trackers
        ]
        self._reporter.begin_steps(run)

    def _warn(self, run: Path, tracker: str, why: str) -> None:
        self.warn(f"{tracker}: {why}. The run goes on. {_later(run, tracker)}")

    def finish(self) -> None:
        """Say that the last run is over, wait for what is sent of it, and tell where it can be looked at."""
        for process in self._sending:
            process.let_go()
        for process in self._sending:
            self.note(describe_outcome(process.finish(WAIT_SECONDS)))
        self._sending = []


@contextlib.contextmanager
def tracked(reporter: Reporter, trackers: Sequence[str]) -> Iterator[Reporter]:
    """Yield a reporter that has every run of the body sent to trackers; the same one where there are none.

    What the runs came to is sent too, as far as it is known at the end of the body.

    Args:
        reporter: Who hears notes and progress.
        trackers: Names, see `penchant.workflow.tracking.asked.trackers_of`.
    """
    if not trackers:
        yield reporter
        return
    own = TrackedReporter(reporter, trackers)
    try:
        yield own
    finally:
        own.finish()


def describe_outcome(outcome: Outcome) -> str:
    """Return one line about what was sent, or about what was not and how it can be."""
    tracker, run = outcome.tracker, outcome.run
    if outcome.failed:
        missing = "an unknown number of" if outcome.unsent is None else str(outcome.unsent)
        return (
            f"{tracker}: {missing} records of {run.name} are not there ({outcome.failed}). {_later(run, tracker)}"
        )
    if not outcome.records:
        return f"{tracker}: all of {run.name} was sent before"
    return f'{tracker}: {outcome.records} records sent as "{outcome.name}". {outcome.look}'


def _later(run: Path, tracker: str) -> str:
    return f"To send them later: penchant track {shlex.quote(str(run))} --to {tracker}"
