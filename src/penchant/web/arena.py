"""The blind arena's pages: two answers side by side, sides hidden, a vote by a key or a button.

Nothing that a page of a vote holds depends on which model is which, save the two texts in their places. Every
change is a form that works without scripts; the few lines of script let a single key press the button.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penchant.evaluation.arena.figures import arena_figures
from penchant.evaluation.arena.shown import KEYS, shown_pair
from penchant.evaluation.arena.vote_store import Arena, Standing, open_arena
from penchant.evaluation.arena.votes import CHOICES, Choice, Vote, rater_name
from penchant.reporting.arena_charts import arena_charts
from penchant.reporting.text_difference import text_differences
from penchant.web.arena_shelf import Shelf
from penchant.web.site import Part, form_of, render

LIVE = "live:"
_TOLD = {
    "other": "This pair had a vote already; that one stays. Undo takes it back.",
    "old": "That page was shown before a vote was taken back, so its vote was not kept.",
}
_ANSWERS_A_PAGE = 20
Result = TypeVar("Result")


def arena_part(place: Path, *, reveal: bool = False) -> Part:
    """Return the arena's section of the local pages.

    Args:
        place: An arena's file; or a folder of runs, whose arenas are listed, and in which new ones can be begun
        from
            the answers that a run ended with.
        reveal: Whether a rater is told after each vote whose answers they were. Then they soon know each model
        by its
            manner, and the votes are no longer blind.
    """
    pages = _Pages(Shelf(place), reveal=reveal)
    return Part(
        "Arena",
        "/arena",
        [
            Route("/arena", pages.index),
            Route("/arena/begin", pages.begin, methods=["POST"]),
            Route("/arena/{key}", pages.start),
            Route("/arena/{key}/vote", pages.showing, methods=["GET"]),
            Route("/arena/{key}/vote", pages.vote, methods=["POST"]),
            Route("/arena/{key}/undo", pages.undo, methods=["POST"]),
            Route("/arena/{key}/results", pages.results),
            Route("/arena/{key}/answers", pages.answers),
        ],
    )


class _Pages:
    def __init__(self, shelf: Shelf, *, reveal: bool) -> None:
        self._shelf, self._reveal = shelf, reveal

    async def index(self, request: Request) -> Response:
        """All arenas; a single one is opened at once."""
        found = await run_in_threadpool(self._shelf.look)
        if self._shelf.single:
            return RedirectResponse(f"/arena/{found.arenas[0].key}", status_code=307)
        return render(request, "arena_index.html.j2", arenas=found.arenas, runs=found.runs)

    async def begin(self, request: Request) -> Response:
        """Begin an arena from a run's own answers."""
        form = await form_of(request)
        key = await run_in_threadpool(self._shelf.begin, form.get("run", ""))
        return RedirectResponse(f"/arena/{key}", status_code=303)

    async def start(self, request: Request) -> Response:
        """What is asked of a rater."""
        with_names = await self._with(request, _told_at_start)
        return render(request, "arena_start.html.j2", key=request.path_params["key"], keys=KEYS, **with_names)

    async def showing(self, request: Request) -> Response:
        """The next pair of a rater, or the end."""
        rater = _rater(request.query_params.get("rater", ""))
        told = await self._with(request, partial(_told_next, rater=rater, reveal=self._reveal))
        note = _TOLD.get(request.query_params.get("note", ""), "")
        values = {"key": request.path_params["key"], "keys": KEYS, "rater": rater, "note": note, **told}
        return render(request, "arena_end.html.j2" if told["pair"] is None else "arena_vote.html.j2", **values)

    async def vote(self, request: Request) -> Response:
        """Keep a vote, and go on."""
        form = await form_of(request)
        rater, position, attempt = _rater(form.get("rater", "")), _count(form, "position"), _count(form, "attempt")
        choice = _choice(form.get("choice", ""))
        outcome = await self._with(
            request, lambda arena: arena.cast(LIVE + rater, rater, position, attempt, choice)
        )
        return self._onward(request, rater, outcome)

    async def undo(self, request: Request) -> Response:
        """Take the last vote back."""
        form = await form_of(request)
        rater, position, attempt = _rater(form.get("rater", "")), _count(form, "position"), _count(form, "attempt")
        await self._with(request, lambda arena: arena.undo(LIVE + rater, rater, position, attempt))
        return self._onward(request, rater, "")

    async def results(self, request: Request) -> Response:
        """What the votes say so far."""
        told = await self._with(request, _told_results)
        return render(request, "arena_results.html.j2", key=request.path_params["key"], **told)

    async def answers(self, request: Request) -> Response:
        """The answers with their names, and who voted how."""
        page = request.query_params.get("page", "1")
        number = int(page) if page.isascii() and page.isdecimal() and len(page) < 7 else 1
        told = await self._with(request, partial(_told_answers, page=number))
        return render(request, "arena_answers.html.j2", key=request.path_params["key"], **told)

    async def _with(self, request: Request, work: Callable[[Arena], Result]) -> Result:
        path = await run_in_threadpool(self._shelf.path_of, request.path_params["key"])
        if path is None:
            raise HTTPException(404, "There is no such arena.")

        def done() -> Result:
            with open_arena(path) as arena:
                return work(arena)

        return await run_in_threadpool(done)

    def _onward(self, request: Request, rater: str, outcome: str) -> Response:
        query = {"rater": rater, **({"note": outcome} if outcome in _TOLD else {})}
        return RedirectResponse(f"/arena/{request.path_params['key']}/vote?{urlencode(query)}", status_code=303)


def _told_at_start(arena: Arena) -> dict[str, Any]:
    votes = arena.votes()
    raters = sorted({vote.rater for vote in votes})
    shown = len(arena.showings(LIVE))
    return {"prompts": len(arena.contest.entries), "shown": shown, "raters": raters}


def _told_next(arena: Arena, *, rater: str, reveal: bool) -> dict[str, Any]:
    standing = arena.standing(LIVE + rater, rater)
    pair = None if standing.showing is None else shown_pair(arena.contest, standing.showing)
    last = standing.last
    names = _revealed(arena.contest.names, last) if reveal and last is not None else None
    return {"standing": standing, "pair": pair, "last": last, "revealed": names, "left": _left(standing)}


def _left(standing: Standing) -> int:
    return standing.total - standing.done


def _revealed(names: Sequence[str], vote: Vote) -> tuple[str, str]:
    return (names[1], names[0]) if vote.swapped else (names[0], names[1])


def _told_results(arena: Arena) -> dict[str, Any]:
    votes, contest = arena.votes(), arena.contest
    figures = arena_figures(contest.names, len(contest.entries), votes)
    return {"figures": figures, "charts": arena_charts(figures, votes), "file": str(arena.path)}


def _told_answers(arena: Arena, *, page: int) -> dict[str, Any]:
    contest, by_entry = arena.contest, dict[str, list[Vote]]()
    for vote in arena.votes():
        by_entry.setdefault(vote.entry, []).append(vote)
    rated = [entry for entry in contest.entries if entry.id in by_entry]
    pages = max(1, -(-len(rated) // _ANSWERS_A_PAGE))
    page = min(max(1, page), pages)
    rows = []
    for entry in rated[(page - 1) * _ANSWERS_A_PAGE : page * _ANSWERS_A_PAGE]:
        pieces = text_differences("\n\n".join(entry.first.texts), "\n\n".join(entry.second.texts))
        rows.append({"entry": entry, "pieces": pieces, "votes": by_entry[entry.id]})
    return {"rows": rows, "names": contest.names, "page": page, "pages": pages, "rated": len(rated)}


def _rater(text: str) -> str:
    try:
        return rater_name(text)
    except ValueError as error:
        raise HTTPException(400, f"This name cannot be used: {error}.") from error


def _count(form: Mapping[str, str], name: str) -> int:
    text = form.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise HTTPException(400, "This form cannot be read.")
    return int(text)


def _choice(text: str) -> Choice:
    for choice in CHOICES:
        if text == choice:
            return choice
    raise HTTPException(400, "This is no choice: " + ", ".join(CHOICES) + ".")
