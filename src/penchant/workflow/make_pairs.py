"""On-policy preference pairs for the house style: the model's own answers, sorted by the judge.

Each question is answered several times. An answer that passes the style is chosen, and one that fails, of as
near a length as there is, is rejected; so length alone explains little of the preference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from penchant.data.atomic import disk_errors, write_text
from penchant.data.rows import read_rows
from penchant.errors import DataError
from penchant.evaluation.house_style import PASS, SYSTEM_PROMPT, judge, words
from penchant.generation.generate import generate
from penchant.models.load import load_model
from penchant.models.precision import choose_precision
from penchant.processes import is_first
from penchant.types import Sampling, Turn
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper, stoppable_progress

PAIRS_PER_QUESTION = 2
PAIR_SAMPLING = Sampling(temperature=1.0, top_k=50, top_p=0.95)
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Question:
    """A question of the packaged task or of one's own."""

    id: str
    text: str

    def turns(self) -> tuple[Turn, ...]:
        """Return the conversation that asks it, house-style instruction included."""
        return (Turn("system", SYSTEM_PROMPT), Turn("user", self.text))


@dataclass(frozen=True)
class Answer:
    """A sampled answer and what the judge said of it."""

    text: str
    finished: bool
    verdict: str


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a file whose rows hold `id` and `question`.

    Raises:
        DataError: A row has no question, or an id stands twice.
    """
    questions: list[Question] = []
    for row in read_rows(path):
        text = row.values.get("question")
        if not isinstance(text, str) or not text.strip():
            raise DataError('no text in column "question"', where=row.place)
        questions.append(Question(str(row.values.get("id") or f"{row.stem}-{row.line}"), text))
    if len({question.id for question in questions}) < len(questions):
        raise DataError("an id stands twice", where=str(path))
    return questions


def make_pairs(
    model: str,
    questions_path: Path,
    out: Path,
    *,
    samples: int = 8,
    max_new_tokens: int = 80,
    seed: int = 0,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> tuple[int, int]:
    """Write `samples.jsonl` and `pairs.jsonl` to the folder `out`; return their and the questions' number.

    Args:
        model: Model name, see `penchant.models.load.load_model`.
        questions_path: Questions, one a row.
        out: Folder to write to.
        samples: Answers sampled for each question.
        max_new_tokens: Where an answer is cut off.
        seed: Of the sampling.
        reporter: Hears progress.
        stopper: Asked at every safe point whether to stop.
    """
    questions = read_questions(questions_path)
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    loaded = load_model(model, bf16=choose_precision("auto", "cpu") == "bf16")
    with stoppable_progress(reporter, stopper, "Sampling answers", len(questions) * samples) as answered:
        generated = generate(
            loaded,
            [loaded.chat.prompt_ids(question.turns()) for question in questions],
            max_new_tokens=max_new_tokens,
            samples=samples,
            sampling=replace(PAIR_SAMPLING, seed=seed),
            batch_rows=_ROWS_AT_ONCE,
            on_rows=answered,
            check_stop=stopper.check,
        )
    answers = [
        [_judged(question, loaded.chat.decode(one.ids), one.finished) for one in row]
        for question, row in zip(questions, generated, strict=True)
    ]
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": question.id, "question": question.text, "answers": [vars(answer) for answer in row]}
        for question, row in zip(questions, answers, strict=True)
    ]
    pairs = [pair for question, row in zip(questions, answers, strict=True) for pair in pairs_of(question, row)]
    if is_first():
        write_text(out / "samples.jsonl", _jsonl(rows))
        write_text(out / "pairs.jsonl", _jsonl(pairs))
    return len(pairs), len({pair["cluster"] for pair in pairs})


def pairs_of(question: Question, answers: list[Answer], limit: int = PAIRS_PER_QUESTION) -> list[dict]:
    """Return up to `limit` pair rows of one question; no answer stands in two of them."""
    passing = _distinct(answer for answer in answers if answer.verdict == PASS)
    failing = _distinct(answer for answer in answers if answer.verdict not in (PASS, "empty"))
    pairs: list[dict] = []
    for chosen in passing[:limit]:
        if not failing:
            break
        length = len(words(chosen.text))
        rejected = min(failing, key=lambda answer: abs(len(words(answer.text)) - length))
        failing.remove(rejected)
        pairs.append(
            {
                "id": f"{question.id}-{len(pairs) + 1}",
                "cluster": question.id,
                "prompt": [turn.as_message() for turn in question.turns()],
                "chosen": chosen.text,
                "rejected": rejected.text,
                "rejected_complete": rejected.finished,
                "rejected_for": rejected.verdict,
            }
        )
    return pairs


def _judged(question: Question, text: str, finished: bool) -> Answer:
    text = text.strip()
    return Answer(text, finished, judge(question.text, text, finished=finished))


def _distinct(answers: Iterable[Answer]) -> list[Answer]:
    return list({answer.text: answer for answer in answers}.values())


def _jsonl(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
