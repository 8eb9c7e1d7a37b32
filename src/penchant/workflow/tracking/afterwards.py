"""`penchant track`: runs that are there already, sent to trackers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penchant.data.files import near_folder
from penchant.errors import UsageError
from penchant.web.run_folders import find_runs
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper
from penchant.workflow.tracking.child import LAST_SECONDS
from penchant.workflow.tracking.process import Outcome, TrackerProcess

_LONGEST_SECONDS = LAST_SECONDS + 10.0  # by then the process has ended itself


def track_runs(
    places: Sequence[Path], trackers: Sequence[str], *, reporter: Reporter, stopper: Stopper
) -> list[Outcome]:
    """Send runs to trackers, as far as they were not sent before.

    A run that is still being trained is sent as far as it has come.

    Args:
        places: Run directories, or folders with runs in them, such as those of a sweep.
        trackers: Names, see `penchant.workflow.tracking.asked.trackers_of`.
        reporter: Hears progress.
        stopper: Asked before each whether to stop.

    Raises:
        UsageError: There is no run in one of the places.
        Stopped: Someone asked to stop; what was sent is there, and the same command sends the rest.
    """
    runs = [run for place in places for run in runs_of(place)]
    outcomes: list[Outcome] = []
    with reporter.progress("Sending", len(runs) * len(trackers)) as advance:
        for run in runs:
            for tracker in trackers:
                stopper.check()
                outcomes.append(TrackerProcess(run, tracker).finish(_LONGEST_SECONDS))
                advance(1)
    return outcomes


def runs_of(place: Path) -> list[Path]:
    """Return the run that a folder is, or the runs below it that have a line of metrics.

    Raises:
        UsageError: There are none.
    """
    found = sorted(path for path in find_runs(place).runs.values() if (path / "metrics.jsonl").is_file())
    if (place / "metrics.jsonl").is_file():
        found = [place.resolve()]
    if not found:
        raise UsageError(
            f"there is no run here.{near_folder(place, 'config.yaml')}",
            where=str(place),
            fix="Name a run directory, or a folder of runs.",
        )
    return found
