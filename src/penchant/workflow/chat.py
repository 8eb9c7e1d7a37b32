"""`penchant chat`: a conversation with a policy and its reference, each of which goes on with its own answers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from penchant.data.atomic import write_json
from penchant.errors import ModelError, UsageError, did_you_mean
from penchant.generation.dialogue import Dialogue
from penchant.types import Answer, Sampling, Turn
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import run_config
from penchant.workflow.speaker import Speaker, load_speaker, speaker_config

POLICY, REFERENCE = "policy", "reference"
CHAT_SAMPLING = Sampling(temperature=0.7, top_p=0.9)
_NUMBERS: dict[str, type[int] | type[float]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "seed": int,
    "max_new_tokens": int,
}


@dataclass(frozen=True)
class Exchange:
    """A question and what each model said to it."""

    question: str
    answers: dict[str, Answer]


def load_speakers(
    model: str,
    reference: str | None,
    *,
    alone: bool = False,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> dict[str, Speaker]:
    """Load the policy, and the reference where there is one; both are in memory then.

    Args:
        model: A model name, or a run directory.
        reference: A model name; of a run by default what it started from or was compared with.
        alone: No reference, also with a run.
        overrides: Changes of the configuration.
        reporter: Hears what is loaded.

    Raises:
        UsageError: A reference that is not wanted.
        ModelError: One of them cannot be loaded.
    """
    if alone and reference is not None:
        raise UsageError("--alone and --reference", fix="Give one of the two.")
    reporter = reporter or Reporter()
    config = speaker_config(model, overrides)
    run = run_config(Path(model))
    if reference is None and run is not None and not alone:
        reference = run.model.reference or run.model.path
    reporter.note(f"Loading {model}")
    speakers = {POLICY: load_speaker(model, config)}
    if reference is not None:
        reporter.note(f"Loading {reference}, the reference")
        try:
            speakers[REFERENCE] = load_speaker(reference, config)
        except ModelError as error:
            raise ModelError(
                f"the reference cannot be loaded: {error.what}",
                where=error.where,
                fix="Name it with --reference, or talk to the policy --alone.",
            ) from error
    return speakers


class ChatSession:
    """A conversation with one model or several; each sees the same questions and its own answers.

    Args:
        speakers: The models by what they are called.
        sampling: How tokens are chosen; every answer has draws of its own.
        max_new_tokens: Longest answer.
        system: A system turn at the beginning.

    Attributes:
        exchanges: What was said so far.
        asked: How many questions were asked; the draws of an answer are keyed by it.
    """

    def __init__(
        self,
        speakers: dict[str, Speaker],
        *,
        sampling: Sampling = CHAT_SAMPLING,
        max_new_tokens: int = 512,
        system: str | None = None,
    ) -> None:
        self.exchanges: list[Exchange] = []
        self.sampling, self.max_new_tokens, self.system = sampling, max_new_tokens, system
        self._models = {name: speaker.name for name, speaker in speakers.items()}
        self._dialogues = {name: Dialogue(speaker.loaded, speaker.chat) for name, speaker in speakers.items()}
        self.asked = 0
        self._saved: set[Path] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """What the models are called."""
        return tuple(self._dialogues)

    def ask(self, question: str) -> Generator[tuple[str, str], None, None]:
        """Yield (name, piece of its answer), the models taking turns; then the exchange is kept.

        Whoever closes it before the end keeps what was said so far, if anything was.

        Raises:
            DataError: A conversation fills a model's context. Nothing is kept.
            ModelError: The question holds a control token as text. Likewise.
        """
        self.asked += 1
        for dialogue in self._dialogues.values():
            dialogue.answer = None
        speaking = {
            name: dialogue.say(
                self.turns(name, question),
                max_new_tokens=self.max_new_tokens,
                sampling=self.sampling,
                name=f"answer {self.asked}",
            )
            for name, dialogue in self._dialogues.items()
        }
        try:
            while speaking:
                for name in list(speaking):
                    piece = next(speaking[name], None)
                    if piece is None:
                        del speaking[name]
                    else:
                        yield name, piece
        finally:
            answers = {name: one.answer for name, one in self._dialogues.items()}
            said = {name: answer for name, answer in answers.items() if answer is not None}
            if len(said) == len(answers) and any(answer.text or answer.finished for answer in said.values()):
                self.exchanges.append(Exchange(question, said))

    def turns(self, name: str, question: str) -> list[Turn]:
        """Return the conversation that a model is shown with a question, its own answers in it."""
        turns = [Turn("system", self.system)] if self.system is not None else []
        for exchange in self.exchanges:
            said = self._dialogues[name].quoted(exchange.answers[name].text)
            turns += [Turn("user", exchange.question), Turn("assistant", said)]
        return [*turns, Turn("user", question)]

    def reset(self) -> None:
        """Forget all that was said."""
        self.exchanges.clear()

    def undo(self) -> Exchange | None:
        """Forget the last question and its answers, and return them; None when there is nothing to forget."""
        return self.exchanges.pop() if self.exchanges else None

    def set_system(self, text: str) -> None:
        """Begin anew under another system turn; "" for none."""
        self.system = text or None
        self.reset()

    def set_sampling(self, words: Sequence[str]) -> None:
        """Change the sampling from now on, by words such as `temperature=0.7` and `max_new_tokens=200`.

        Raises:
            UsageError: A word is none of these, or a value out of range. Nothing is changed.
        """
        longest, changes = self.max_new_tokens, dict[str, Any]()
        for word in words:
            name, _, value = word.partition("=")
            if name not in _NUMBERS:
                raise UsageError(f"{name} is no part of the sampling.{did_you_mean(name, _NUMBERS)}")
            try:
                changes[name] = _NUMBERS[name](value)
            except ValueError:
                raise UsageError(f"{name} is not a number: {value}", fix=f"Write {name}=NUMBER.") from None
        longest = changes.pop("max_new_tokens", longest)
        if longest < 1:
            raise UsageError(f"max_new_tokens is {longest}", fix="It is 1 or more.")
        self.sampling, self.max_new_tokens = replace(self.sampling, **changes), longest

    def describe_sampling(self) -> str:
        """Return one line with the sampling, in the words of `set_sampling`."""
        values = {**asdict(self.sampling), "max_new_tokens": self.max_new_tokens}
        return " ".join(f"{name}={value}" for name, value in values.items())

    def save(self, path: Path) -> None:
        """Write the conversation as JSON; over a file only if this session wrote it.

        Raises:
            UsageError: There is such a file.
            DiskError: It cannot be written.
        """
        if path.exists() and path.resolve() not in self._saved:
            raise UsageError("there is such a file already", where=str(path), fix="Choose another name.")
        record = {
            "models": self._models,
            "system": self.system,
            "sampling": {**asdict(self.sampling), "max_new_tokens": self.max_new_tokens},
            "exchanges": [asdict(exchange) for exchange in self.exchanges],
        }
        write_json(path, record)
        self._saved.add(path.resolve())
