"""Answers before and after for the report: what became of each verdict, what differs, and which are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from markupsafe import escape

from penchant.reporting.charts import cut
from penchant.reporting.figures import Row, count, list_of, mapping_of, plain_number, rows_of, text_of
from penchant.reporting.text_difference import Piece, text_differences

EXAMPLES = 3
MOST_CHARACTERS = 4000  # of one answer
ROOM = 900_000  # bytes of a page for all answers together
LEAST_SHARED = 0.3  # of the longer text; where less is shared, marks would cover everything
PASS = "pass"
_TEXTS = ("question", "reference", "policy")
_FRAME = 500  # bytes of an answer's card without its texts
_MARK = 13  # bytes of a marked piece without its text

Pieces = tuple[Piece, ...]


class Answer(NamedTuple):
    """One test question with what became of its verdict."""

    row: Row
    change: str


class Card(NamedTuple):
    """An answer as a page shows it.

    Attributes:
        id: Of the question.
        change: What became of the verdict.
        question: What was asked.
        sides: Before and after: title, verdict (None where nobody judged), and the text in pieces.
    """

    id: str
    change: str
    question: str
    sides: tuple[tuple[str, str | None, Pieces], tuple[str, str | None, Pieces]]


def answers_of(samples: Sequence[Row]) -> list[Answer]:
    """Return the lines of `samples/test.jsonl` with what became of their verdicts."""
    return [Answer(row, _change(row)) for row in samples]


def choose_examples(answers: Sequence[Answer]) -> list[Answer]:
    """Return three answers that show gain and loss alike, always the same ones for the same run.

    The first that went from fail to pass, the first that still fails, the first that went from pass to fail;
    places that stay empty are filled in the order of the file.
    """
    kinds = ("Fail to pass", "Still fails", "Pass to fail")
    firsts = [next((answer for answer in answers if answer.change == kind), None) for kind in kinds]
    chosen = [answer for answer in firsts if answer is not None]
    others = [answer for answer in answers if not any(answer is taken for taken in chosen)]
    return [*chosen, *others][:EXAMPLES]


def from_suites(comparison: Mapping[str, Any] | None, rows: Sequence[Row]) -> list[Answer]:
    """Return answers of `eval/answers/SUITE.jsonl` as those of `samples/test.jsonl`: first model and last."""
    columns = [text_of(row, "name") for row in rows_of(comparison or {}, "columns")]
    if len(columns) < 2:
        return []
    found = []
    for row in rows:
        said = mapping_of(row, "answers")
        before, after = (list_of(mapping_of(said, columns[place]), "text") for place in (0, -1))
        asked = [text_of(turn, "content") for turn in rows_of(row, "prompt")]
        if before and after and asked:
            line = {"id": row.get("id"), "question": asked[-1], "reference": before[-1], "policy": after[-1]}
            found.append(Answer(line, "Not judged"))
    return found


def card_of(answer: Answer) -> Card:
    """Return an answer with the words marked that only one of its sides has; long texts are cut."""
    row = answer.row
    missing = "(no answer in the file)"
    texts = [_shortened(text_of(row, side, missing)) for side in ("reference", "policy")]
    pieces = marked_where_alike(*texts)
    before, after = (
        (title, None if row.get(key) is None else text_of(row, key), part)
        for title, key, part in zip(
            ("Before", "After"), ("reference_verdict", "policy_verdict"), pieces, strict=True
        )
    )
    question = _shortened(text_of(row, "question", "(no question in the file)"))
    return Card(cut(text_of(row, "id"), 80), answer.change, question, (before, after))


def marked_where_alike(one: str, other: str) -> tuple[Pieces, Pieces]:
    """Return both texts as `text_differences` does, in one piece each where they share hardly anything."""
    found = text_differences(one, other)
    shared = min(sum(len(piece.text) for piece in side if not piece.own) for side in found)
    if shared < LEAST_SHARED * max(len(one), len(other)):
        return (Piece(one, False),), (Piece(other, False),)
    return found


def fitting(answers: Sequence[Answer], room: int = ROOM) -> tuple[list[Card], str]:
    """Return as many cards as there is room for, evenly from the whole file, and what to say of the others."""
    plain = [_FRAME + sum(_bytes(_shortened(text_of(answer.row, key))) for key in _TEXTS) for answer in answers]
    every = _thinning(plain, room)  # before words are marked, which takes the longest
    cards = list(map(card_of, answers[::every]))
    again = _thinning(list(map(_size, cards)), room)
    if every * again == 1:
        return cards, ""
    whole = f"one in {every * again}, evenly from all {count(len(answers))}"
    return cards[::again], f"Shown is {whole}, so that the page stays small; all are in"


def lengths_of(answers: Sequence[Answer]) -> list[tuple[str, str, str]]:
    """Return how long the answers are, in words: what is measured, before, after; [] without answers."""
    if not answers:
        return []
    before, after = (
        [len(text_of(answer.row, side).split()) for answer in answers] for side in ("reference", "policy")
    )
    figures = (("Mean", fmean), ("Median", median), ("Longest", max))
    rows = [(name, plain_number(figure(before)), plain_number(figure(after))) for name, figure in figures]
    longer = sum(later > first for first, later in zip(before, after, strict=True))
    shorter = sum(later < first for first, later in zip(before, after, strict=True))
    return [*rows, ("Answers that are the longer one of the two", count(shorter), count(longer))]


def flow_of(answers: Sequence[Answer]) -> Counter[str]:
    """Return how many answers met each change of verdict."""
    return Counter(answer.change for answer in answers)


def _change(row: Row) -> str:
    before, after = row.get("reference_verdict"), row.get("policy_verdict")
    if before is None or after is None:
        return "Not judged"
    if after == PASS:
        return "Passes both times" if before == PASS else "Fail to pass"
    return "Pass to fail" if before == PASS else "Still fails"


def _shortened(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}… (cut here: {count(len(text))} characters in all)"


def _size(card: Card) -> int:
    """About how many bytes a card takes on the page."""
    texts = (card.question, *(piece.text for *_, pieces in card.sides for piece in pieces))
    marks = sum(piece.own for *_, pieces in card.sides for piece in pieces)
    return _FRAME + _MARK * marks + sum(map(_bytes, texts))


def _bytes(text: str) -> int:
    return len(str(escape(text)).encode("utf-8", "replace"))


def _thinning(sizes: Sequence[int], room: int) -> int:
    """The least step by which to go through things so that they fit."""
    every = 1
    while sum(sizes[::every]) > room and every < len(sizes):
        every += 1
    return every
