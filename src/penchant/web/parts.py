"""The sections of the local pages, in the order of the navigation."""

from __future__ import annotations

from pathlib import Path

from penchant.web.run_steps import RunWork
from penchant.web.runs import runs_part
from penchant.web.site import Part


def make_parts(runs: Path, work: RunWork) -> list[Part]:
    """Return all sections; a further one is a line here. The first is the start page.

    Args:
        runs: A folder of runs, or a run.
        work: What the layers above do for the section on runs.
    """
    return [
        runs_part(runs, work),
    ]
