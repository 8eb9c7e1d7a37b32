"""The section "Runs": what runs there are, how each is going, and what a single step and pair did."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penchant.web.run_folders import RunFolders
from penchant.web.site import Part, render


def runs_part(root: Path) -> Part:
    """Return the section on the runs below a folder, those included that begin later.

    Args:
        root: A folder of runs, or a run.
    """
    folders = RunFolders(root)

    def listed(request: Request) -> Response:
        return render(request, "runs.html.j2", root=str(root), found=folders.found())

    return Part("Runs", "/runs", [Route("/runs", listed)])
