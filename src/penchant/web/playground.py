"""The playground: policy and reference, asked the same question, side by side while they write.

Everything here works with plain links and forms; a script of our own reads the page again while an answer grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penchant.errors import UsageError
from penchant.reporting.text_difference import Piece, text_differences
from penchant.types import Sampling
from penchant.web.playground_form import chosen, fields, others, sampling_of, voices_of
from penchant.web.playground_likelihood import SIDES, Side, lean
from penchant.web.playground_pairs import PairFile, cannot_keep
from penchant.web.playground_room import Room, new_key
from penchant.web.playground_talk import Exchange, Models, Talk
from penchant.web.site import Part, form_of, render

PATH = "/playground"
_WORTH_MARKING = 0.2


def playground_part(
    models: Models, *, sampling: Sampling, max_new_tokens: int, pairs: Path | None = None, where: str = ""
) -> Part:
    """Return the section "Playground" of the site.

    Nothing is loaded before the first question.

    Args:
        models: Who can be asked.
        sampling: How tokens are chosen unless a form says otherwise.
        max_new_tokens: Longest answer, likewise.
        pairs: The file in which preferences are kept; without one they cannot be.
        where: Where runs are looked for, in words, for a page without any.
    """
    pages = _Pages(models, sampling, max_new_tokens, None if pairs is None else PairFile(pairs), where)
    routes = [
        Route(PATH, pages.start, methods=["GET"]),
        Route(f"{PATH}/ask", pages.ask, methods=["POST"]),
        Route(f"{PATH}/talk/{{name}}", pages.talk, methods=["GET"]),
        Route(f"{PATH}/talk/{{name}}/stop", pages.stop, methods=["POST"]),
        Route(f"{PATH}/talk/{{name}}/keep", pages.keep, methods=["POST"]),
    ]
    return Part("Playground", PATH, routes)


class _Pages:
    def __init__(
        self, models: Models, sampling: Sampling, max_new_tokens: int, pairs: PairFile | None, where: str
    ) -> None:
        self._models, self._room, self._pairs = models, Room(models), pairs
        self._sampling, self._max_new_tokens, self._where = sampling, max_new_tokens, where

    def start(self, request: Request) -> Response:
        """The page on which a conversation begins."""
        choices = self._models.choices()
        talks = [(talk, talk.exchanges[0].question) for talk in self._room.talks()]
        if not choices:
            return render(request, "playground_empty.html.j2", talks=talks, where=self._where)
        policy = chosen(choices, request.query_params.get("policy"))
        beside = request.query_params.get("beside") or None
        if beside not in others(choices, policy):  # such as the reference of a model that has none
            beside = None
        return render(
            request,
            "playground.html.j2",
            choices=choices,
            policy=policy,
            others=others(choices, policy),
            beside=beside or next(iter(others(choices, policy))),
            voices=voices_of(choices, policy, beside),
            questions=self._models.questions(policy),
            fields=fields(self._sampling, self._max_new_tokens),
            key=new_key(),
            talks=talks,
        )

    async def ask(self, request: Request) -> Response:
        """Take a question, in a new conversation or one of before."""
        form = await form_of(request)
        talk = await run_in_threadpool(self._asked, form)
        return RedirectResponse(f"{PATH}/talk/{talk.id}#last", status_code=303)

    def talk(self, request: Request) -> Response:
        """A conversation; with `?live` only what changes while it is written."""
        talk = self._known(request)
        last, live = talk.exchanges[-1], "live" in request.query_params
        return render(
            request,
            "playground_live.html.j2" if live else "playground_talk.html.j2",
            talk=talk,
            shown=[self._shown(talk, one) for one in (talk.exchanges[-1:] if live else talk.exchanges)],
            last=last,
            sides=[(side, talk.voices[side]) for side in SIDES if side in talk.voices],
            fields=fields(last.sampling, last.max_new_tokens),
            pairs=self._pairs,
            key=new_key(),
        )

    async def stop(self, request: Request) -> Response:
        """End an answer where it is."""
        await form_of(request)
        talk = self._known(request)
        self._room.stop(talk)
        return RedirectResponse(f"{PATH}/talk/{talk.id}#last", status_code=303)

    async def keep(self, request: Request) -> Response:
        """Keep which answer was better."""
        form, talk = await form_of(request), self._known(request)
        better: Side | None = next((side for side in SIDES if side == form.get("better")), None)
        found = [exchange for exchange in talk.exchanges if exchange.key == form.get("exchange")]
        if better is None or not found:
            raise HTTPException(400, "This form names no answer.")
        if self._pairs is None:
            raise UsageError("no file was named to keep pairs in", fix="Start again and name one.")
        await run_in_threadpool(self._pairs.keep, talk, found[0], better)
        return RedirectResponse(f"{PATH}/talk/{talk.id}#{found[0].key}", status_code=303)

    def _asked(self, form: Mapping[str, str]) -> Talk:
        sampling, longest = sampling_of(form, self._sampling, self._max_new_tokens)
        talk = self._continued(form) if form.get("talk") else self._begun(form)
        question = form.get("question", "")
        if "start" in form:
            texts = self._models.questions(talk.policy).texts
            question = next((text for place, text in enumerate(texts) if str(place) == form["start"]), "")
        return self._room.ask(
            talk, question.replace("\r\n", "\n"), sampling, longest, key=form.get("key") or new_key()
        )

    def _begun(self, form: Mapping[str, str]) -> Talk:
        choices = self._models.choices()
        policy = chosen(choices, form.get("policy"))
        voices = voices_of(choices, policy, form.get("beside"))
        return Talk(new_key(), policy, voices, form.get("system", "").strip().replace("\r\n", "\n"))

    def _continued(self, form: Mapping[str, str]) -> Talk:
        talk = self._room.find(form["talk"])
        if talk is None:
            raise UsageError("this conversation is no longer there", fix="Begin a new one in the playground.")
        return talk

    def _known(self, request: Request) -> Talk:
        talk = self._room.find(request.path_params["name"])
        if talk is None:
            raise HTTPException(404, "There is no such conversation. They are forgotten when the server ends.")
        return talk

    def _shown(self, talk: Talk, exchange: Exchange) -> dict[str, Any]:
        """An exchange as the page shows it."""
        answers = {side: exchange.answers[side].text for side in exchange.answers}
        two = exchange.over and set(answers) == set(SIDES)
        pieces = text_differences(answers["left"], answers["right"]) if two else ()
        return {
            "exchange": exchange,
            "two": two,
            "marked": dict(zip(SIDES, pieces, strict=True)) if worth_marking(pieces) else {},
            "texts": answers or exchange.texts,
            "ahead": self._room.ahead(exchange),
            "lean": lean(exchange.likelihoods),
            "unkept": cannot_keep(exchange),
            "remembered": len(talk.before(exchange)),
        }


def worth_marking(sides: Sequence[Sequence[Piece]]) -> bool:
    """Return whether texts share enough for marks to show where they part: a fifth of their characters."""
    shared = sum(len(piece.text) for pieces in sides for piece in pieces if not piece.own)
    return shared > _WORTH_MARKING * sum(len(piece.text) for pieces in sides for piece in pieces)
