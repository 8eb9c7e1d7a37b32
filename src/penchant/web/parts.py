"""The sections of the local pages, in the order of the navigation."""

from __future__ import annotations

from pathlib import Path

from penchant.web.runs import runs_part
from penchant.web.site import Part


def make_parts(runs: Path) -> list[Part]:
    """Return all sections; a further one is a line here. The first is the start page.

    Args:
        runs: A folder of runs, or a run.
    """
    return [
        runs_part(runs),
    ]
