"""The nouns of the playground: who can be asked, what was asked, and what was said to it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from penchant.types import Answer, Sampling, Turn
from penchant.web.playground_likelihood import Likelihoods, Side

# waiting for its turn, its models are being loaded, answered, measured; or over, in one of three ways
State = Literal["waiting", "loading", "answering", "measuring", "done", "stopped", "failed"]
OVER: tuple[State, ...] = ("done", "stopped", "failed")


@dataclass(frozen=True)
class Choice:
    """A model that can be asked.

    Attributes:
        name: What it is called; no two share it.
        path: A run directory, or the name of a model.
        reference: The model that it was compared with; None where there is none.
        beta: By which its run multiplies log-ratios; None where it is not known.
    """

    name: str
    path: str
    reference: str | None = None
    beta: float | None = None

    @property
    def key(self) -> str:
        """Its name in forms: control characters of a name become signs on a page, and would come back as these."""
        return hashlib.sha256(self.name.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True)
class Voice:
    """A model in its place beside another one.

    Attributes:
        role: What it is here: "policy", "reference" or "model".
        name: What it is called.
        path: A run directory, or the name of a model.
        like: The run directory, or model, in whose format it is asked.
    """

    role: str
    name: str
    path: str
    like: str


@dataclass(frozen=True)
class Questions:
    """Questions to begin with.

    Attributes:
        texts: The questions.
        source: Where they are from, in words.
    """

    texts: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Said:
    """A question of before, and what each side said to it."""

    question: str
    answers: Mapping[Side, Answer]


@dataclass(frozen=True)
class Asked:
    """A question with all that its answers depend on.

    Attributes:
        talk: Name of the conversation.
        voices: Who is asked, by side.
        system: A system turn at the beginning; "" for none.
        history: What was said before; each side goes on with its own answers.
        question: The question.
        sampling: How tokens are chosen, on both sides alike.
        max_new_tokens: Longest answer.
    """

    talk: str
    voices: Mapping[Side, Voice]
    system: str
    history: tuple[Said, ...]
    question: str
    sampling: Sampling
    max_new_tokens: int


class Answering(Protocol):
    """Models that are loaded and wait to answer one question."""

    def pieces(self) -> Generator[tuple[Side, str], None, None]:
        """Yield the side and a piece of its answer, in turns; may be closed before the end."""
        ...

    def answers(self) -> Mapping[Side, Answer]:
        """Return what was said, once `pieces` is over; {} when nothing was."""
        ...

    def likelihoods(self) -> Likelihoods:
        """Return how probable each answer is under each model."""
        ...


class Models(Protocol):
    """Who can be asked. Only one thread asks; any may read the choices."""

    def choices(self) -> Sequence[Choice]:
        """Return who can be asked now, the newest run first."""
        ...

    def questions(self, choice: Choice) -> Questions:
        """Return a few questions that a run was not trained on."""
        ...

    def ask(self, asked: Asked, note: Callable[[str], None]) -> Answering:
        """Load the models, unless they are there, and tell `note` what is being loaded.

        Raises:
            PenchantError: One cannot be loaded.
        """
        ...


@dataclass(frozen=True)
class Trouble:
    """Why a question has no answer: what is wrong, where, and what can be done about it."""

    what: str
    where: str = ""
    fix: str = ""


@dataclass
class Exchange:
    """A question and what became of it; written by the thread that answers, read by those that show it.

    Attributes:
        key: Unique; a form that is posted twice asks once.
        question: The question.
        sampling: How tokens are chosen.
        max_new_tokens: Longest answer.
        state: How far it is.
        note: What is being loaded.
        texts: What each side has said so far.
        answers: What each side said in the end.
        likelihoods: How probable the answers are, once that was measured.
        trouble: Why it failed.
        seconds: What the answers took, loading not counted.
        better: The side that was kept as the better one; None as long as there is none.
        stop: Set to end it.
    """

    key: str
    question: str
    sampling: Sampling
    max_new_tokens: int
    state: State = "waiting"
    note: str = ""
    texts: dict[Side, str] = field(default_factory=dict)
    answers: Mapping[Side, Answer] = field(default_factory=dict)
    likelihoods: Likelihoods = field(default_factory=dict)
    trouble: Trouble | None = None
    seconds: float = 0.0
    better: Side | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in OVER


@dataclass
class Talk:
    """A conversation with one model or two.

    Attributes:
        id: Its name in addresses.
        policy: Who was chosen.
        voices: Who is asked, by side.
        system: A system turn at the beginning; "" for none.
        exchanges: What was asked.
    """

    id: str
    policy: Choice
    voices: Mapping[Side, Voice]
    system: str
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return any(not exchange.over for exchange in self.exchanges)

    def before(self, exchange: Exchange) -> list[Exchange]:
        """Return the exchanges before one that have answers: what the models remember."""
        earlier = self.exchanges[: self.exchanges.index(exchange)]
        return [one for one in earlier if one.answers]

    def asked(self, exchange: Exchange) -> Asked:
        """Return a question with all that its answers depend on."""
        history = tuple(Said(one.question, one.answers) for one in self.before(exchange))
        return Asked(
            self.id,
            self.voices,
            self.system,
            history,
            exchange.question,
            exchange.sampling,
            exchange.max_new_tokens,
        )

    def turns(self, exchange: Exchange, side: Side) -> list[Turn]:
        """Return the conversation up to a question as one side remembers it."""
        turns = [Turn("system", self.system)] if self.system else []
        for one in self.before(exchange):
            turns += [Turn("user", one.question), Turn("assistant", one.answers[side].text)]
        return [*turns, Turn("user", exchange.question)]
