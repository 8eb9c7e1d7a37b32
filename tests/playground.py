"""Made-up models for the playground's pages: they say what they are told to, as fast as a test lets them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from penchant.errors import ModelError
from penchant.types import Answer
from penchant.web.playground_likelihood import Likelihood, Likelihoods, Side
from penchant.web.playground_talk import Asked, Choice, Questions

RUN = Choice("runs/one", "runs/one", reference="bundled", beta=0.1)
OTHER = Choice("runs/two", "runs/two", reference="bundled", beta=0.2)
PLAIN = Choice("a-model", "a-model")
BROKEN = Choice("runs/broken", "runs/broken", reference="bundled")
ANSWERS: dict[Side, str] = {"left": "The sun shines often.", "right": "The sun never shines."}


@dataclass
class MadeUpModels:
    """Models that answer each question with the same words.

    Attributes:
        answers: What each side says, word by word.
        found: Who can be asked.
        go: Cleared, they wait with the next word.
        asked: What they were asked.
        starts: The questions to begin with.
    """

    answers: Mapping[Side, str] = field(default_factory=lambda: ANSWERS)
    found: Sequence[Choice] = (RUN, OTHER, PLAIN, BROKEN)
    go: threading.Event = field(default_factory=threading.Event)
    asked: list[Asked] = field(default_factory=list)
    starts: tuple[str, ...] = ("Why is the sky blue?", "Who are you?", "What is a <b>?")

    def __post_init__(self) -> None:
        self.go.set()

    def choices(self) -> Sequence[Choice]:
        return self.found

    def questions(self, choice: Choice) -> Questions:
        return Questions(self.starts, f"Questions of {choice.name}.")

    def ask(self, asked: Asked, note: Callable[[str], None]) -> _Answering:
        self.asked.append(asked)
        note(f"Loading {asked.voices['left'].name}")
        if asked.voices["left"].name == BROKEN.name:
            raise ModelError("there is no <such> model", where=BROKEN.path, fix="Make one.")
        if asked.question == "crash":
            raise RuntimeError("torn \x1b[31m<i>")
        return _Answering(self, asked)


class _Answering:
    def __init__(self, models: MadeUpModels, asked: Asked) -> None:
        self._models, self._asked = models, asked
        self._said: dict[Side, str] = dict.fromkeys(asked.voices, "")

    def pieces(self) -> Generator[tuple[Side, str], None, None]:
        words: dict[Side, list[str]] = {side: self._models.answers[side].split(" ") for side in self._asked.voices}
        for place in range(max(map(len, words.values()))):
            for side, said in words.items():
                if place < len(said):
                    piece = (" " if place else "") + said[place]
                    self._said[side] += piece
                    yield side, piece
            if not self._models.go.wait(20):
                raise TimeoutError("no test let the models go on")

    def answers(self) -> Mapping[Side, Answer]:
        if not any(self._said.values()):
            return {}
        return {
            side: Answer(text, text == self._models.answers[side], len(text.split()))
            for side, text in self._said.items()
        }

    def likelihoods(self) -> Likelihoods:
        return {
            side: {judge: Likelihood(-10.0 if side == judge else -14.0, 5) for judge in self._asked.voices}
            for side in self._asked.voices
        }
