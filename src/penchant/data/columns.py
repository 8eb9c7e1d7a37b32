"""The values of a row's columns, read by type. What is wrong with one is a RowError that names the column."""

from __future__ import annotations

import math
from dataclasses import dataclass

from penchant.data.rows import RawRow
from penchant.errors import DataError


class RowError(DataError):
    """One row whose columns cannot be used as they are."""


class MissingColumnError(RowError):
    """A column that a pair needs is not there.

    Args:
        column: Its name.
    """

    def __init__(self, column: str) -> None:
        super().__init__(f'no column "{column}"')
        self.column = column


@dataclass(frozen=True, slots=True)
class Extras:
    """What a row may say beside its texts; see `penchant.types.PreferencePair`. Labels are "" when absent."""

    id: str
    cluster: str
    origin: str
    chosen_complete: bool
    rejected_complete: bool
    weight: float | None
    margin: float | None
    confidence: float | None
    score_chosen: float | None
    score_rejected: float | None


def extras_of(row: RawRow) -> Extras:
    """Return the optional columns; scores may also stand in an object called `metadata`.

    Raises:
        RowError: One has the wrong type, a number is not finite, or a weight or confidence is out of range.
    """
    weight = number(row, "weight")
    if weight is not None and weight <= 0:
        raise RowError('column "weight" is not above zero')
    confidence = number(row, "confidence")
    if confidence is not None and not 0.5 < confidence <= 1:
        raise RowError('column "confidence" is not above 0.5 and at most 1')
    return Extras(
        id=row_id(row),
        cluster=label(row, "cluster"),
        origin=label(row, "source"),
        chosen_complete=flag(row, "chosen_complete"),
        rejected_complete=flag(row, "rejected_complete"),
        weight=weight,
        margin=number(row, "margin"),
        confidence=confidence,
        score_chosen=score(row, "score_chosen"),
        score_rejected=score(row, "score_rejected"),
    )


def row_id(row: RawRow) -> str:
    """Return the row's own id, or one made of its file and line."""
    return label(row, "id") or made_id(row)


def made_id(row: RawRow) -> str:
    """Return the id of a row that has none of its own."""
    return f"{row.stem}-{row.line}"


def required(row: RawRow, name: str) -> object:
    """Return the value of a column that must be there.

    Raises:
        MissingColumnError: It is not.
    """
    if name not in row.values:
        raise MissingColumnError(name)
    return row.values[name]


def text(row: RawRow, name: str) -> str:
    """Return a column that must be text.

    Raises:
        RowError: It is missing or something else.
    """
    value = required(row, name)
    if not isinstance(value, str):
        raise RowError(f'column "{name}" is {kind_of(value)}, not text')
    return value


def items(row: RawRow, name: str) -> list[object]:
    """Return a column that must be a list.

    Raises:
        RowError: It is missing or something else.
    """
    value = required(row, name)
    if not isinstance(value, list):
        raise RowError(f'column "{name}" is {kind_of(value)}, not a list')
    return value


def label(row: RawRow, name: str) -> str:
    """Return an optional naming column as text, '' when it is absent or null.

    Raises:
        RowError: It is empty, or neither a text nor a whole number.
    """
    value = row.values.get(name)
    if value is None or (row.all_text and value == ""):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        found = "empty" if value == "" else kind_of(value)
        raise RowError(f'column "{name}" is {found}, not a text or a whole number')
    return str(value)


def flag(row: RawRow, name: str) -> bool:
    """Return an optional true-or-false column, True when it is absent or null.

    Raises:
        RowError: It is something else.
    """
    value = row.values.get(name)
    if value is None or isinstance(value, bool):
        return value is not False
    if row.all_text and isinstance(value, str) and value.lower() in ("", "true", "false"):
        return value.lower() != "false"
    raise RowError(f'column "{name}" is {kind_of(value)}, not true or false')


def number(row: RawRow, name: str) -> float | None:
    """Return an optional column as a finite number, None when it is absent or null.

    Raises:
        RowError: It is no finite number.
    """
    value = row.values.get(name)
    if row.all_text and isinstance(value, str):
        value = _parsed(value)
    return as_number(value, f'column "{name}"')


def as_number(value: object, what: str) -> float | None:
    """Return a finite number as float, None for null.

    Raises:
        RowError: It is something else; `what` names it.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(f"{what} is {kind_of(value)}, not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise RowError(f"{what} is not a finite number")
    return found


def score(row: RawRow, name: str) -> float | None:
    """Return a score column, or the one of the same name in an object called `metadata`; None without either.

    Raises:
        RowError: It is no finite number.
    """
    metadata = row.values.get("metadata")
    if name not in row.values and isinstance(metadata, dict):
        return as_number(metadata.get(name), f'"{name}" of "metadata"')
    return number(row, name)


def kind_of(value: object) -> str:
    """Name a value's type in words, without its content."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return {str: "text", list: "a list", dict: "an object"}.get(type(value), "of another type")


def _parsed(cell: str) -> object:
    """Read a cell of a format that knows only text as a number; what is none stays as it is."""
    if cell == "":
        return None
    try:
        return float(cell)
    except ValueError:
        return cell
