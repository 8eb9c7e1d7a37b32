"""The section "Runs": what runs there are, how each is going, and what a single step and pair did."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penchant.reporting.charts import Chart
from penchant.reporting.figures import finite_number
from penchant.web.kept import Kept
from penchant.web.run_charts import MOST_TOGETHER, overlay_charts, run_charts
from penchant.web.run_files import Row, RunFiles, sign_of
from penchant.web.run_shelf import RunShelf
from penchant.web.run_state import RUNNING, SILENT, RunState, state_of
from penchant.web.run_steps import RunWork, StepPages
from penchant.web.run_views import PAGES, run_judged, run_view, table_row
from penchant.web.site import Part, render

# a page of a run may come from anybody: it gets no script, no address, and an origin of its own
PAGE_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_STEP_PAGE = re.compile(r"/step/(?P<step>\d{1,12})(/pair/(?P<pair>\d{1,6}))?(?P<live>/live)?", re.ASCII)
_LARGEST_PAGE = 1 << 26  # bytes
_GOES_ON = (RUNNING, SILENT)
_KEPT = 64  # runs of which charts are kept
_LOOK = 2000  # milliseconds from one look at a run that goes on to the next
_LOOK_AT_LIST = 5000


class _Runs:
    """The pages of the section.

    Args:
        shelf: The runs.
        work: See `StepPages`.
    """

    def __init__(self, shelf: RunShelf, work: RunWork) -> None:
        self._shelf, self._steps = shelf, StepPages(work)
        self._charts, self._judged = Kept[list[Chart]](_KEPT), Kept[Row](_KEPT)

    def table(self, request: Request) -> Response:
        """All runs; with `live` in the query, only what changes."""
        now = time.time()
        states, cut_off = self._shelf.states()
        live = "live" in request.query_params
        return render(
            request,
            "runs_table.html.j2" if live else "runs.html.j2",
            root=str(self._shelf.root),
            rows=[table_row(state, now) for state in states],
            cut_off=cut_off,
            now=_clock(now),
            look=_LOOK_AT_LIST,
            most=MOST_TOGETHER,
        )

    def compare(self, request: Request) -> Response:
        """The curves of the runs that the query names, in one chart each."""
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        if not names:
            return self.page(request, "compare")
        chosen = {name: self._found(name) for name in names[:MOST_TOGETHER]}
        now = time.time()
        states, rows, versions = [], {}, []
        for name, files in chosen.items():
            rows[name] = files.steps.rows()
            versions.append(f"{files.number}.{files.steps.version}")
            states.append(state_of(files, now))
        _, charts = self._charts.get(f"together {sorted(names)}", " ".join(versions), lambda: overlay_charts(rows))
        return render(
            request,
            "runs_compare.html.j2",
            rows=[table_row(state, now) for state in states],
            charts=charts,
            left_out=names[MOST_TOGETHER:],
            most=MOST_TOGETHER,
        )

    def one(self, request: Request) -> Response:
        """A page of one run."""
        return self.page(request, request.path_params["words"])

    def page(self, request: Request, words: str) -> Response:
        """The page of a run that a path below the section's names."""
        found = self._shelf.named(words)
        if found is None:
            raise HTTPException(404, "There is no such run.")
        files, rest = found
        if rest == "":
            return self._overview(request, files, live=False)
        if rest == "/live":
            return self._overview(request, files, live=True)
        if rest[1:] in PAGES:
            return _own_page(files, rest[1:])
        return self._step_page(request, files, rest)

    def _step_page(self, request: Request, files: RunFiles, rest: str) -> Response:
        if rest == "/step":
            return self._steps.find(request, files)
        asked = _STEP_PAGE.fullmatch(rest)
        if asked is None:
            raise HTTPException(404, "This run has no such page.")
        number, live = int(asked["step"]), asked["live"] is not None
        if asked["pair"] is None:
            return self._steps.step(request, files, number, live=live)
        return self._steps.pair(request, files, number, int(asked["pair"]), live=live)

    def score(self, request: Request) -> Response:
        """Have the tokens of a pair scored."""
        found = self._shelf.named(request.path_params["words"])
        asked = found and _STEP_PAGE.fullmatch(found[1])
        if not found or not asked or asked["pair"] is None:
            raise HTTPException(404, "There is nothing to be done here.")
        return self._steps.score(request, found[0], int(asked["step"]), int(asked["pair"]))

    def _overview(self, request: Request, files: RunFiles, *, live: bool) -> Response:
        now = time.time()
        state = state_of(files, now)
        version = self._version(files)
        view = run_view(files, state, now, self._judgement(files, state, version))
        version, charts = self._drawn(files, state, version)
        texts = {"config": files.text("config.yaml"), "traceback": files.text("traceback.txt")}
        known = live and request.query_params.get("charts") == version
        return render(
            request,
            "run_live.html.j2" if live else "run.html.j2",
            view=view,
            state=state,
            texts=texts,
            charts=None if known else charts,
            version=version,
            look=_LOOK,
            goes_on=state.state in _GOES_ON,
        )

    def _version(self, files: RunFiles) -> str:
        """What changes with any line of the run, and with its end."""
        logs = (files.steps, files.validations, files.generations)
        for log in logs:
            log.rows()
        ended = sign_of(files.path / "eval" / "training.json")
        return f"{files.number}.{'.'.join(str(log.version) for log in logs)}.{ended and ended[0]}"

    def _judgement(self, files: RunFiles, state: RunState, version: str) -> Row:
        _, judged = self._judged.get(
            str(files.path), version, lambda: run_judged(files, state), hurry=state.state not in _GOES_ON
        )
        return judged

    def _drawn(self, files: RunFiles, state: RunState, version: str) -> tuple[str, Sequence[Chart]]:
        steps, validations, generations = (
            log.rows() for log in (files.steps, files.validations, files.generations)
        )
        start = finite_number(files.object("eval/training.json")[0].get("loss_at_reference"))
        return self._charts.get(
            str(files.path),
            version,
            lambda: run_charts(steps, validations, generations, start),
            hurry=state.state not in _GOES_ON,
        )

    def _found(self, name: str) -> RunFiles:
        found = self._shelf.named(name)
        if found is None or found[1]:
            raise HTTPException(404, f"There is no run {name}.")
        return found[0]


def runs_part(root: Path, work: RunWork) -> Part:
    """Return the section on the runs below a folder, those included that begin later.

    Args:
        root: A folder of runs, or a run.
        work: Reads the texts of training pairs, and scores their tokens.
    """
    pages = _Runs(RunShelf(root), work)
    return Part(
        "Runs",
        "/runs",
        [
            Route("/runs", pages.table),
            Route("/runs/compare", pages.compare),
            Route("/runs/{words:path}", pages.score, methods=["POST"]),
            Route("/runs/{words:path}", pages.one, methods=["GET"]),
        ],
    )


def _own_page(files: RunFiles, name: str) -> Response:
    """A page that lies in the run directory, under a policy of its own."""
    path = files.path / name
    if not path.is_file() or path.stat().st_size > _LARGEST_PAGE:
        raise HTTPException(404, "This run has no such page.")
    return Response(path.read_bytes(), media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


def _clock(now: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(now))
