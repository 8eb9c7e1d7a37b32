"""The conversations of the playground, and the one thread that answers: a question at a time, in their order."""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections import deque

from penchant.errors import PenchantError, UsageError
from penchant.reporting.page import visible
from penchant.types import Sampling
from penchant.web.playground_talk import Exchange, Models, Talk, Trouble

MOST_TALKS = 30  # kept; the oldest that nobody waits for is forgotten first
MOST_WAITING = 20  # questions


class Room:
    """Conversations, and a queue of their questions.

    The thread lives as long as there are questions, so that nothing keeps the process from ending; whoever ends
    it waits for no more than the next token, or for a model that is being loaded.

    Args:
        models: Who answers.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._talks: dict[str, Talk] = {}
        self._waiting: deque[tuple[Talk, Exchange]] = deque()
        self._working = False

    def talks(self) -> list[Talk]:
        """Return the conversations, the newest first."""
        with self._lock:
            return list(reversed(self._talks.values()))

    def find(self, name: str) -> Talk | None:
        """Return a conversation by its id."""
        with self._lock:
            return self._talks.get(name)

    def ask(self, talk: Talk, question: str, sampling: Sampling, max_new_tokens: int, *, key: str) -> Talk:
        """Ask a question in a conversation, a new one or one of before, and return the conversation.

        A key that was seen before asks nothing: the conversation of that question is returned.

        Raises:
            UsageError: There is no question, or too many wait already.
        """
        if not question.strip():
            raise UsageError("there is no question", fix="Write one, then ask again.")
        with self._lock:
            for known in self._talks.values():
                if any(exchange.key == key for exchange in known.exchanges):
                    return known
            if len(self._waiting) >= MOST_WAITING:
                raise UsageError(
                    f"{MOST_WAITING} questions wait already", fix="Stop some, or wait until they are answered."
                )
            exchange = Exchange(key, question, sampling, max_new_tokens, texts=dict.fromkeys(talk.voices, ""))
            talk.exchanges.append(exchange)
            self._talks[talk.id] = talk
            self._forget()
            self._waiting.append((talk, exchange))
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="playground").start()
        return talk

    def stop(self, talk: Talk) -> None:
        """End what a conversation waits for; what was said so far stays."""
        with self._lock:
            for exchange in talk.exchanges:
                if not exchange.over:
                    exchange.stop.set()
            for waiting in [one for one in self._waiting if one[0] is talk]:
                self._waiting.remove(waiting)
                waiting[1].state = "stopped"

    def ahead(self, exchange: Exchange) -> int:
        """Return how many questions are answered before this one that waits."""
        with self._lock:
            for place, (_, waiting) in enumerate(self._waiting):
                if waiting is exchange:
                    return place + 1
        return 0

    def _forget(self) -> None:
        """Drop the oldest conversations beyond the limit; not those with an answer to come."""
        idle = [name for name, talk in self._talks.items() if not talk.busy]
        for name in idle[: max(0, len(self._talks) - MOST_TALKS)]:
            del self._talks[name]

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or not threading.main_thread().is_alive():
                    self._working = False
                    return
                talk, exchange = self._waiting.popleft()
                exchange.state = "loading"
            try:
                self._answer(talk, exchange)
            except PenchantError as error:
                exchange.trouble = Trouble(error.what, error.where or "", error.fix or "")
            except Exception as error:  # the server lives on, and the page and the terminal say what happened
                print(visible(traceback.format_exc()), file=sys.stderr)
                what = f"a defect of Penchant: {type(error).__name__}: {error}"
                exchange.trouble = Trouble(what, fix="Please report it; the terminal shows where it happened.")
            if exchange.trouble is not None:
                exchange.state = "failed"

    def _answer(self, talk: Talk, exchange: Exchange) -> None:
        def note(text: str) -> None:
            exchange.note = text

        answering = self._models.ask(talk.asked(exchange), note)
        exchange.note, exchange.state, started = "", "answering", time.monotonic()
        pieces = answering.pieces()
        if not exchange.stop.is_set():
            for side, piece in pieces:
                exchange.texts[side] += piece
                if exchange.stop.is_set() or not threading.main_thread().is_alive():
                    break
        pieces.close()
        exchange.answers, exchange.seconds = dict(answering.answers()), time.monotonic() - started
        if exchange.answers and threading.main_thread().is_alive():
            exchange.state = "measuring"
            exchange.likelihoods = answering.likelihoods()
        exchange.state = "stopped" if exchange.stop.is_set() else "done"


def new_key() -> str:
    """Return a name that nobody else has."""
    return secrets.token_hex(8)
