"""TruthfulQA: questions with answers that are true or false, from its CSV, its multiple-choice file, or the Hub.

Two layouts, told apart by their columns:

    Question, Best Answer, Correct Answers, Incorrect Answers    the CSV; answers separated by semicolons
    question, mc1_targets, mc2_targets                           the Hub's rows, and the file mc_task.json; targets
                                                                 are {choices, labels}, or {answer: label}

MC1 and MC2 choose among different answers. The Hub's rows give both sets. The CSV has no set of its own for MC1:
there it is the best answer against all incorrect ones, as in the benchmark's own code, and MC2's are all correct
and all incorrect answers. As there, an answer from the CSV that has no full stop at its end is given one.

S. Lin, J. Hilton and O. Evans, "TruthfulQA: Measuring How Models Mimic Human Falsehoods" (arXiv:2109.07958);
data and code are under the Apache License 2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from penchant.data.columns import RowError, kind_of, made_id, text
from penchant.data.formats import DataFormat
from penchant.data.hub import resolve_revision
from penchant.data.ledger import DropReason, Ledger
from penchant.data.rows import BrokenRow, RawRow, limited_rows
from penchant.data.table_records import dataset_records
from penchant.errors import DataError, did_you_mean
from penchant.offline import hub_remedy
from penchant.types import LedgerEntry

_HUB = DataFormat(
    name="truthfulqa",
    layouts=(),
    hub="truthfulqa/truthful_qa",
    revision="741b8276f2d1982aa3d5b832d3ee81ed3b896490",
    licence="Apache-2.0",
)
_CONFIGURATION, _SPLIT = "multiple_choice", "validation"


@dataclass(frozen=True)
class Choices:
    """Answers to choose among; at least one is true and one is false.

    Attributes:
        texts: The answers.
        true: Whether each is true.
    """

    texts: tuple[str, ...]
    true: tuple[bool, ...]


@dataclass(frozen=True)
class TruthfulQuestion:
    """A question with the answers that are scored.

    Attributes:
        id: Unique within its file.
        text: The question.
        mc1: What MC1 chooses among; exactly one answer is true.
        mc2: What MC2 chooses among.
        category: Such as "Health"; "" where the file names none.
        source: The file.
        line: 1-based row within it.
    """

    id: str
    text: str
    mc1: Choices
    mc2: Choices
    category: str = ""
    source: str = ""
    line: int = 0

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer of MC1 and MC2 once: what has to be scored."""
        return tuple(dict.fromkeys((*self.mc1.texts, *self.mc2.texts)))


def load_truthfulqa(path: Path, *, limit: int | None = None) -> tuple[list[TruthfulQuestion], Ledger]:
    """Return the questions of a file, or of a folder that holds one, and the fate of every row.

    Dropped: `broken_row`, `empty_prompt`, `no_true_answer`, `no_false_answer`, `not_one_best_answer`, and
    `true_and_false_answer` (the same words stand among both).

    Args:
        path: Any format of `penchant.data.rows`.
        limit: Only the first rows.

    Raises:
        DataError: It cannot be read, its columns are not those of TruthfulQA, or no question is left.
        UsageError: A limit below one.
    """
    return read_questions(limited_rows(path, limit=limit), where=path.as_posix())


def load_truthfulqa_hub(revision: str | None = None) -> tuple[list[TruthfulQuestion], Ledger]:
    """Return the questions of the Hub's multiple-choice rows, at one commit. See `load_truthfulqa`.

    Args:
        revision: A commit, tag or branch; None for the one that this was written against.

    Raises:
        DataError: The Hub cannot be reached, or as `load_truthfulqa`.
    """
    import datasets

    commit = resolve_revision(_HUB, revision)
    try:
        rows = datasets.load_dataset(_HUB.hub, _CONFIGURATION, split=_SPLIT, revision=commit)
    except Exception as err:  # its client has many errors of many kinds, and one remedy serves all
        first_line = next(iter(str(err).splitlines()), "")[:200]
        raise DataError(
            f"cannot be had from the Hub ({type(err).__name__}: {first_line})",
            where=_HUB.hub,
            fix=hub_remedy(
                "Give TruthfulQA.csv as a file, or unset it.",
                "Check the connection, or give TruthfulQA.csv as a file.",
            ),
        ) from err
    source = f"{_HUB.hub}@{commit[:12]}/{_CONFIGURATION}-{_SPLIT}"
    return read_questions(_hub_rows(rows, source), where=source)


def read_questions(rows: Iterable[RawRow | BrokenRow], *, where: str) -> tuple[list[TruthfulQuestion], Ledger]:
    """Return the questions of raw rows and the fate of each row. See `load_truthfulqa`."""
    questions: list[TruthfulQuestion] = []
    ledger = Ledger()
    known = False
    for row in rows:
        found = _broken(row) if isinstance(row, BrokenRow) else _judged(row, first=not known)
        known = known or isinstance(row, RawRow)
        if isinstance(found, TruthfulQuestion):
            questions.append(found)
            found = LedgerEntry(found.source, found.line, found.id, "kept")
        ledger.append(found)
    if not questions:
        reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.reasons().items())
        raise DataError(f"none of the {len(ledger)} rows is a question that can be scored: {reasons}", where=where)
    return questions, ledger


def _hub_rows(dataset: object, source: str) -> Iterator[RawRow | BrokenRow]:
    for line, record in dataset_records(dataset):
        yield BrokenRow(source, line, record) if isinstance(record, str) else RawRow(source, line, record)


def _broken(row: BrokenRow) -> LedgerEntry:
    return _dropped(row, DropReason.BROKEN_ROW.value, row.reason)


def _judged(row: RawRow, *, first: bool) -> TruthfulQuestion | LedgerEntry:
    read = _reader(row)
    if read is None and first:
        raise _unknown_columns(row)
    if read is None:
        return _dropped(row, DropReason.BROKEN_ROW.value, "the columns are not those of TruthfulQA")
    try:
        question = read(row)
    except RowError as err:
        return _dropped(row, DropReason.BROKEN_ROW.value, err.what)
    reason = _fault(question)
    return _dropped(row, reason) if reason else question


def _dropped(row: RawRow | BrokenRow, reason: str, evidence: str = "") -> LedgerEntry:
    return LedgerEntry(row.source, row.line, f"{row.stem}-{row.line}", "dropped", reason, evidence)


def _fault(question: TruthfulQuestion) -> str:
    """What is wrong with a question, "" when nothing is."""
    both = (question.mc1, question.mc2)
    checks = (
        (DropReason.EMPTY_PROMPT.value, not question.text),
        ("no_true_answer", not all(any(choices.true) for choices in both)),
        ("no_false_answer", any(all(choices.true) for choices in both)),
        ("not_one_best_answer", sum(question.mc1.true) != 1),
        ("true_and_false_answer", _contradicts(both)),
    )
    return next((reason for reason, broken in checks if broken), "")


def _contradicts(sets: Iterable[Choices]) -> bool:
    labels: dict[str, bool] = {}
    said = ((answer, true) for choices in sets for answer, true in zip(choices.texts, choices.true, strict=True))
    return any(labels.setdefault(answer, true) != true for answer, true in said)


def _from_table(row: RawRow) -> TruthfulQuestion:
    best = _closed(text(row, "Best Answer"))
    true, false = _separated(row, "Correct Answers"), _separated(row, "Incorrect Answers")
    return TruthfulQuestion(
        id=made_id(row),
        text=text(row, "Question").strip(),
        mc1=Choices((*best, *false), (True,) * len(best) + (False,) * len(false)),
        mc2=Choices((*true, *false), (True,) * len(true) + (False,) * len(false)),
        category=_category(row, "Category"),
        source=row.source,
        line=row.line,
    )


def _separated(row: RawRow, name: str) -> tuple[str, ...]:
    return tuple(answer for part in text(row, name).split(";") for answer in _closed(part))


def _closed(answer: str) -> tuple[str, ...]:
    """The answer with a full stop at its end; nothing of an empty one."""
    words = answer.strip()
    return (words if words.endswith(".") else f"{words}.",) if words else ()


def _from_targets(row: RawRow) -> TruthfulQuestion:
    return TruthfulQuestion(
        id=made_id(row),
        text=text(row, "question").strip(),
        mc1=_targets(row, "mc1_targets"),
        mc2=_targets(row, "mc2_targets"),
        category=_category(row, "category"),
        source=row.source,
        line=row.line,
    )


def _category(row: RawRow, name: str) -> str:
    value = row.values.get(name)
    return value.strip() if isinstance(value, str) else ""


def _targets(row: RawRow, name: str) -> Choices:
    value = row.values[name]
    if not isinstance(value, dict):
        raise RowError(f'column "{name}" is {kind_of(value)}, not an object')
    lists = set(value) == {"choices", "labels"}
    texts, labels = (value["choices"], value["labels"]) if lists else (list(value), list(value.values()))
    if not (isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels)):
        raise RowError(f'"choices" and "labels" of "{name}" are not lists of one length')
    if not all(isinstance(answer, str) and answer.strip() for answer in texts):
        raise RowError(f'"{name}" holds an answer that is empty or no text')
    if not all(type(one) in (int, bool) and one in (0, 1) for one in labels):
        raise RowError(f'"{name}" holds a label that is neither 0 nor 1')
    return Choices(tuple(answer.strip() for answer in texts), tuple(bool(one) for one in labels))


_LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[RawRow], TruthfulQuestion]], ...] = (
    (("Question", "Best Answer", "Correct Answers", "Incorrect Answers"), _from_table),
    (("question", "mc1_targets", "mc2_targets"), _from_targets),
)


def _reader(row: RawRow) -> Callable[[RawRow], TruthfulQuestion] | None:
    return next((read for columns, read in _LAYOUTS if set(columns) <= row.values.keys()), None)


def _unknown_columns(row: RawRow) -> DataError:
    nearest, _ = max(_LAYOUTS, key=lambda layout: sum(column in row.values for column in layout[0]))
    missing = next(column for column in nearest if column not in row.values)
    near = did_you_mean(missing, row.values)
    return DataError(
        f'no column "{missing}"; columns found: {", ".join(row.values) or "none"}.'
        + (near if near.startswith(" Did") else ""),
        where=row.place,
        fix=f"TruthfulQA has the columns {'; or '.join(', '.join(columns) for columns, _ in _LAYOUTS)}.",
    )
