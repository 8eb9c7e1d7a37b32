"""Runs and models as the playground asks them. Light: what loads models is imported with the first question."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penchant.types import Answer, Turn
from penchant.web.playground_likelihood import Likelihoods, Side
from penchant.web.playground_talk import Answering, Asked, Choice, Questions
from penchant.workflow.playground.choices import find_choices
from penchant.workflow.playground.questions import starting_questions

if TYPE_CHECKING:
    from penchant.workflow.chat import ChatSession
    from penchant.workflow.playground.shelf import Shelf
    from penchant.workflow.speaker import Speaker

MOST_MODELS = 2


class RunModels:
    """The finished runs of a folder, and models by name; see `penchant.web.playground_talk.Models`.

    Args:
        runs: Where runs are looked for; None = nowhere.
        models: Further models, or run directories, by name.
        overrides: Changes of the configuration that models are loaded by.
        most: How many models are kept in memory; two are, where a question needs two.
    """

    def __init__(
        self,
        runs: Path | None,
        models: Sequence[str] = (),
        *,
        overrides: Sequence[str] = (),
        most: int = MOST_MODELS,
    ) -> None:
        self._runs, self._models, self._overrides, self._most = runs, models, overrides, most
        self._shelf: Shelf | None = None
        self._last: tuple[str, ChatSession] | None = None  # with what its models have read

    def choices(self) -> list[Choice]:
        """Return who can be asked now: models that were named, then runs, the newest first."""
        return find_choices(self._runs, self._models)

    def questions(self, choice: Choice) -> Questions:
        """Return three questions to begin with."""
        return starting_questions(choice)

    def ask(self, asked: Asked, note: Callable[[str], None]) -> Answering:
        """Load the models, unless they are there.

        Raises:
            PenchantError: One cannot be loaded.
        """
        if self._shelf is None:
            note("Getting ready")
            from penchant.workflow.playground.shelf import Shelf

            self._shelf = Shelf(self._most, self._overrides)
        speakers = self._shelf.speakers(list(asked.voices.values()), note, self._let_go)
        return _Answering(asked, dict(zip(asked.voices, speakers, strict=True)), self._session)

    def _let_go(self) -> None:
        self._last = None

    def _session(self, asked: Asked, speakers: Mapping[Side, Speaker]) -> ChatSession:
        """The conversation as it stands; if the last question was in it, its models have read it already."""
        from penchant.workflow.chat import ChatSession, Exchange

        if self._last is None or self._last[0] != asked.talk:
            self._last = asked.talk, ChatSession({**speakers}, system=asked.system or None)
        session = self._last[1]
        session.sampling, session.max_new_tokens = asked.sampling, asked.max_new_tokens
        session.exchanges = [Exchange(one.question, {**one.answers}) for one in asked.history]
        session.asked = len(asked.history)  # so that an answer does not depend on what else was asked meanwhile
        return session


class _Answering:
    """One question on its way."""

    def __init__(
        self,
        asked: Asked,
        speakers: Mapping[Side, Speaker],
        session_of: Callable[[Asked, Mapping[Side, Speaker]], ChatSession],
    ) -> None:
        self._asked, self._speakers = asked, speakers
        self._session = session_of(asked, speakers)
        self._turns: dict[Side, list[Turn]] = {
            side: self._session.turns(side, asked.question) for side in asked.voices
        }

    def pieces(self) -> Generator[tuple[Side, str], None, None]:
        """Yield the side and a piece of its answer, in turns; may be closed before the end."""
        from penchant.workflow.playground.shelf import memory_explained

        spoken = self._session.ask(self._asked.question)
        try:
            with memory_explained("the conversation", "Ask for a shorter answer, or begin anew."):
                for name, piece in spoken:
                    yield next(side for side in self._asked.voices if side == name), piece
        finally:
            spoken.close()

    def answers(self) -> Mapping[Side, Answer]:
        """Return what was said, once `pieces` is over; {} when nothing was."""
        if len(self._session.exchanges) == len(self._asked.history):
            return {}
        said = self._session.exchanges[-1].answers
        return {side: said[side] for side in self._asked.voices}

    def likelihoods(self) -> Likelihoods:
        """Return how probable each answer is under each model, given what its own side remembers."""
        from penchant.workflow.playground.likelihoods import likelihood
        from penchant.workflow.playground.shelf import memory_explained

        answers = self.answers()
        with memory_explained("measuring how probable the answers are", "Ask for shorter answers, or begin anew."):
            return {
                side: {
                    judge: likelihood(speaker, self._turns[side], answers[side])
                    for judge, speaker in self._speakers.items()
                }
                for side in answers
            }
