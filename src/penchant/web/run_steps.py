"""The pages of a step and of a pair: which pairs an update was made of, and what each token of a pair did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penchant.evaluation.token_scores import ScoredPair
from penchant.evaluation.unusual_steps import unusual_steps
from penchant.types import PreferencePair
from penchant.web.jobs import Job, Jobs
from penchant.web.run_files import Row, RunFiles, sign_of
from penchant.web.site import render
from penchant.web.step_views import pair_text, pairs_of, prompt_start, step_figures, token_view

Texts = tuple[Mapping[str, PreferencePair], str]

_TEXTS_WAIT = 1.5  # seconds for which a page waits for texts before it is shown without
_LOOK = 1000  # milliseconds from one look at a job to the next


class RunWork(NamedTuple):
    """What the pages have done for them by the layers above.

    Attributes:
        texts: Of a run directory: its training pairs by id, and "" or why there are none.
        tokens: Of a run directory and a pair's id, with something that hears progress: the pair token by token.
    """

    texts: Callable[[Path], Texts]
    tokens: Callable[[Path, str, Callable[[str], None]], ScoredPair]


class StepPages:
    """The pages of steps and pairs.

    Args:
        work: Reads texts and scores tokens.
    """

    def __init__(self, work: RunWork) -> None:
        self._work = work
        self._texts, self._tokens = Jobs("texts", keep=2), Jobs("tokens", keep=32)

    def find(self, request: Request, files: RunFiles) -> Response:
        """Lead from a step's number in the query to its page."""
        number = request.query_params.get("n", "")
        if not number.isdecimal() or len(number) > 12:
            raise HTTPException(404, "A step is a whole number.")
        return RedirectResponse(f"/runs/{quote(files.name)}/step/{int(number)}", status_code=303)

    def step(self, request: Request, files: RunFiles, number: int, *, live: bool) -> Response:
        """A step with its pairs, those of the highest loss first."""
        rows, line = files.steps.rows(), files.pairs.line(number)
        steps = [int(row["step"]) for row in rows]
        row = next((row for row in rows if row["step"] == number), None)
        if row is None and line is None:
            raise HTTPException(404, f"There is no step {number} in this run.")
        texts, reading, why = self._texts_of(files)
        pairs = [{**pair, "start": _start(texts, pair["id"])} for pair in pairs_of(line or {})]
        place = steps.index(number) if number in steps else None
        return render(
            request,
            "step_live.html.j2" if live else "step.html.j2",
            run=files.name,
            number=number,
            figures=step_figures(row or {}),
            reasons=[one.reason for one in unusual_steps(rows, most=len(rows)) if one.step == number],
            before=steps[place - 1] if place else None,
            after=steps[place + 1] if place is not None and place + 1 < len(steps) else None,
            pairs=pairs,
            reading=reading,
            why=why,
            look=_LOOK,
        )

    def pair(self, request: Request, files: RunFiles, number: int, place: int, *, live: bool) -> Response:
        """A pair: its text, its figures at that step, and its tokens if they were asked for."""
        pair = self._pair(files, number, place)
        texts, reading, why = self._texts_of(files)
        known = texts.get(pair["id"])
        job = self._tokens.find(self._key(files, pair["id"]))
        return render(
            request,
            "pair_live.html.j2" if live else "pair.html.j2",
            run=files.name,
            number=number,
            pair=pair,
            text=pair_text(known) if known else None,
            reading=reading,
            why=why,
            has_model=(files.path / "model").is_dir(),
            **_job_view(job),
            goes_on=reading or (job is not None and not job.done.is_set()),
            look=_LOOK,
        )

    def score(self, request: Request, files: RunFiles, number: int, place: int) -> Response:
        """Have a pair's tokens scored, and lead back to its page, which shows how far that is."""
        name = self._pair(files, number, place)["id"]
        self._tokens.start(self._key(files, name), lambda say: self._work.tokens(files.path, name, say))
        return RedirectResponse(f"/runs/{quote(files.name)}/step/{number}/pair/{place}#tokens", status_code=303)

    def _pair(self, files: RunFiles, number: int, place: int) -> Row:
        for pair in pairs_of(files.pairs.line(number) or {}):
            if pair["place"] == place:
                return pair
        raise HTTPException(404, "There is no such pair in this step.")

    def _texts_of(self, files: RunFiles) -> tuple[Mapping[str, PreferencePair], bool, str]:
        """The texts by id, whether they are still being read, and why there are none."""
        key = (files.path, sign_of(files.path / "config.yaml"))
        job = self._texts.find(key)
        if job is None:
            job = self._texts.start(key, lambda _: self._work.texts(files.path))
        if not job.done.wait(_TEXTS_WAIT):
            return {}, True, ""
        if job.failed:
            return {}, False, job.error
        texts, why = job.result
        return texts, False, why

    def _key(self, files: RunFiles, name: str) -> object:
        return files.path, name, sign_of(files.path / "config.yaml")


def _start(texts: Mapping[str, PreferencePair], name: str) -> str:
    return prompt_start(texts[name]) if name in texts else ""


def _job_view(job: Job | None) -> Row:
    """How far the scoring of tokens is, and what came out."""
    if job is None:
        return {"scoring": "", "error": "", "scored": None}
    if not job.done.is_set():
        return {"scoring": job.note or "Waiting for the pair before it", "error": "", "scored": None}
    if job.failed:
        return {"scoring": "", "error": job.error, "scored": None}
    found: ScoredPair = job.result
    sides = {"Chosen": found.chosen, "Rejected": found.rejected}
    return {
        "scoring": "",
        "error": "",
        "scored": {title: token_view(tokens) for title, tokens in sides.items() if tokens},
    }
