"""The answers that an arena is about, from every kind of file that Penchant writes answers to.

a row with two answers          a run's `samples/test.jsonl`, files for `penchant judge` (see its `answer_file`)
a row with `answers` by model   `eval/answers/SUITE.jsonl`: the first model's against the last one's
a row with one `response`       two files of `penchant generate`, joined by id; of several samples the first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant.data.columns import RowError, items, label, required, row_id, text
from penchant.data.messages import read_turns
from penchant.data.rows import RawRow, read_rows
from penchant.errors import DataError, UsageError
from penchant.evaluation.arena.contest import Entry, Said
from penchant.types import Prompt, Turn

Names = tuple[str, str]
_SIDES = (("policy", "reference"), ("first", "second"))
_PROMPTS = ("prompt", "question", "turns")


def read_entries(files: Sequence[Path], *, limit: int | None = None) -> tuple[tuple[Entry, ...], Names]:
    """Return the prompts with both answers, and what the file calls the models.

    Args:
        files: One file with both answers, or two of `penchant generate`.
        limit: Only the first prompts.

    Raises:
        DataError: A file or a row cannot be used, an id stands twice, or two files share no prompt.
        UsageError: Two files where one has both answers, or one where it has a single one.
    """
    tables = [read_rows(path, limit=limit if len(files) == 1 else None) for path in files]
    single = ["response" in rows[0].values for rows in tables]
    if len(files) == 2 and all(single):
        return _joined(*(_generated(rows) for rows in tables))[:limit], _named(files)
    if len(files) != 1 or single[0]:
        raise UsageError(
            "an arena is given one file with two answers a row, or two files of penchant generate",
            where="--answers",
            fix="--answers BOTH.jsonl, or --answers ONE.jsonl --answers OTHER.jsonl",
        )
    rows = tables[0]
    if "answers" in rows[0].values:
        entries, names = _of_suite(rows)
    else:
        entries, names = _of_sides(rows)
    return _checked(entries, rows), names


def joined_entries(prompts: Sequence[Prompt], one: Path, other: Path) -> tuple[Entry, ...]:
    """Return prompts with what two models said to them, from two files that `penchant generate` made of them.

    Raises:
        DataError: A file cannot be used, or lacks a prompt.
    """
    sides = [_generated(read_rows(path)) for path in (one, other)]
    found = []
    for prompt in prompts:
        if not all(prompt.id in side for side in sides):
            raise DataError(
                f"there is no answer to {prompt.id[:80]!r}", where=str(one if prompt.id not in sides[0] else other)
            )
        first, second = (side[prompt.id].first for side in sides)
        found.append(Entry(prompt.id, prompt.turns, first, second, prompt.later))
    return tuple(found)


def _named(files: Sequence[Path]) -> Names:
    one, other = files
    return (one.stem, other.stem) if one.stem != other.stem else (str(one), str(other))


def _checked(entries: list[Entry], rows: Sequence[RawRow]) -> tuple[Entry, ...]:
    seen: dict[str, str] = {}
    for entry, row in zip(entries, rows, strict=True):
        if entry.id in seen:
            raise DataError(f"the id {entry.id[:80]!r} stands twice, first at {seen[entry.id]}", where=row.place)
        seen[entry.id] = row.place
    return tuple(entries)


def _of_sides(rows: Sequence[RawRow]) -> tuple[list[Entry], Names]:
    names = next((pair for pair in _SIDES if all(name in rows[0].values for name in pair)), None)
    if names is None:
        raise DataError(
            "its rows hold no two answers",
            where=rows[0].place,
            fix='They stand in "policy" and "reference", in "first" and "second", or in "answers" by model.',
        )
    return [_entry(row, *(_side(row, name) for name in names)) for row in rows], names


def _of_suite(rows: Sequence[RawRow]) -> tuple[list[Entry], Names]:
    columns = rows[0].values["answers"]
    if not isinstance(columns, dict) or len(columns) < 2:
        raise DataError('its "answers" are not those of two models', where=rows[0].place)
    reference, *_, last = map(str, columns)
    found = []
    for row in rows:
        answers = row.values.get("answers")
        if not isinstance(answers, dict) or not {reference, last} <= set(answers):
            raise DataError(f"no answers of {last} and {reference}", where=row.place)
        found.append(_entry(row, *(_suite_side(row, answers[name]) for name in (last, reference))))
    return found, (last, reference)


def _suite_side(row: RawRow, column: Any) -> Said:
    try:
        texts, finished = column["text"], column["finished"]
        return Said(tuple(texts if isinstance(texts, list) else [texts]), _all(finished))
    except (KeyError, TypeError) as error:
        raise DataError('an entry of "answers" has a "text" and "finished"', where=row.place) from error


def _all(finished: Any) -> bool:
    return bool(finished[-1]) if isinstance(finished, list) and finished else bool(finished)


def _generated(rows: Sequence[RawRow]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for row in rows:
        if row.values.get("sample", 0) != 0:
            continue
        try:
            key, asked, said = label(row, "id") or row_id(row), text(row, "prompt"), text(row, "response")
        except RowError as error:
            raise DataError(error.what, where=row.place) from error
        finished = row.values.get("finished", True) is True
        before = found.get(key)
        if before is None:
            one = Said((said,), finished)
            found[key] = Entry(key, (Turn("user", asked),), one, one)
        elif row.values.get("turn") == len(before.first.texts) + 1:
            one = Said((*before.first.texts, said), finished)
            found[key] = replace(before, first=one, second=one, later=(*before.later, asked))
        else:
            raise DataError(f"the id {key[:80]!r} stands twice", where=row.place)
    return found


def _joined(one: dict[str, Entry], other: dict[str, Entry]) -> tuple[Entry, ...]:
    shared = [key for key in one if key in other]
    alike = [key for key in shared if (one[key].turns, one[key].later) == (other[key].turns, other[key].later)]
    if not alike or len(alike) < max(len(one), len(other)):
        raise DataError(
            f"the two files do not answer the same prompts: {len(one)} and {len(other)}, {len(alike)} alike",
            where="--answers",
            fix="Answer one file of prompts with both models.",
        )
    return tuple(replace(one[key], second=other[key].first) for key in alike)


def _entry(row: RawRow, first: Said, second: Said) -> Entry:
    try:
        turns, later = _asked(row)
        found = Entry(row_id(row), turns, first, second, later)
    except RowError as error:
        raise DataError(error.what, where=row.place) from error
    if {len(first.texts), len(second.texts)} != {1 + len(later)}:
        raise DataError("there is not one answer to each turn of the user", where=row.place)
    return found


def _asked(row: RawRow) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    column = next((name for name in _PROMPTS if name in row.values), _PROMPTS[0])
    value = required(row, column)
    more = row.values.get("later") or []
    if not isinstance(more, list) or not all(isinstance(one, str) for one in more):
        raise RowError('"later" is no list of texts')
    later = tuple(str(one) for one in more)
    if isinstance(value, str):
        return (Turn("user", value),), later
    found = items(row, column)
    if found and all(isinstance(one, str) for one in found):
        return (Turn("user", str(found[0])),), (*map(str, found[1:]), *later)
    return tuple(read_turns(column, found)), later


def _side(row: RawRow, name: str) -> Said:
    value = row.values.get(name)
    finished = row.values.get(f"{name}_finished", True) is not False
    if isinstance(value, str):
        return Said((value,), finished)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return Said(tuple(map(str, value)), finished)
    raise DataError(f'column "{name}" is neither a text nor a list of texts', where=row.place)
