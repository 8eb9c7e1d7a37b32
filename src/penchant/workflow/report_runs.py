"""`penchant report` of several runs: what is on disk of each, and paired tests where their rows are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.errors import DataError, PenchantError, UsageError
from penchant.reporting.report_runs import write_runs_report
from penchant.workflow.compare import compare


def report_runs(runs: Sequence[Path], target: Path) -> Path:
    """Write one page on several runs and return its path.

    Args:
        runs: Run directories, at least two, none twice; they need not be finished, nor whole.
        target: The page.

    Raises:
        UsageError: A run is named twice.
        DataError: In one of the directories there is no run.
        DiskError: The page cannot be written.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise UsageError("a run is named twice", fix="Name each run directory once.")
    tests: dict[str, Any] | None = None
    why_not = ""
    try:
        tests = compare(runs, cases=0)
    except PenchantError as error:
        why_not = f"{error.where}: {error.what}" if error.where else error.what
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a file that somebody edited
        why_not = str(DataError(f"a file of these runs does not hold what it should ({error!r})"))
    return write_runs_report(runs, target, tests=tests, why_not=why_not)
