"""How a verb works: stoppable, with progress, in one process or several; and what it says at its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from penchant.cli.console import make_reporter
from penchant.cli.typed import typed_command
from penchant.errors import UsageError
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper
from penchant.workflow.tracking.tracked import tracked

Result = TypeVar("Result")


def working(
    work: Callable[[Reporter, Stopper], Result],
    *,
    quiet: bool,
    again: Sequence[Sequence[str]] = (),
    several: bool = False,
    track: Sequence[str] = (),
) -> Result:
    """Do a long work with progress, stoppable; libraries keep their own bars and advice to themselves.

    `again` are options that a command needs to go on from where it was stopped. Of `several` processes the first
    one goes on from here, and the others end. Runs that the work makes are sent to the trackers of `track`.
    """
    from penchant.cli.quiet_libraries import quiet_libraries
    from penchant.workflow.tracking.asked import trackers_of

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not several:
        raise UsageError("this command is the work of one process", fix="Start it without torchrun.")
    trackers = trackers_of(track)
    with Stopper(typed_command(*again)) as stopper:
        quiet_libraries()
        if several:
            return _work_together(work, stopper, quiet, trackers)
        with tracked(make_reporter(quiet=quiet), trackers) as reporter:
            return work(reporter, stopper)


def _work_together(
    work: Callable[[Reporter, Stopper], Result], stopper: Stopper, quiet: bool, trackers: Sequence[str]
) -> Result:
    from penchant.processes import is_first, together

    with together():
        first = is_first()
        with tracked(make_reporter(quiet=quiet or not first), trackers if first else ()) as reporter:
            result = work(reporter, stopper)
    if not first:
        raise SystemExit(0)
    return result


def first_free(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that is not there yet."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def say_next(*lines: str, quiet: bool = False) -> None:
    """Print where the output is, and what the next command would be; the latter not when `quiet`."""
    hints = next((place for place, line in enumerate(lines) if line.startswith("Next")), len(lines))
    shown = lines[:hints] if quiet else lines
    if shown:
        print("\n" + "\n".join(shown))
