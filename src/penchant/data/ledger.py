"""The ledger: what became of every input row, one fate each, kept as `ledger.parquet` beside a run."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq

from penchant.data.atomic import flush, hidden_name
from penchant.errors import DataError, DiskError, PenchantError
from penchant.types import Fate, LedgerEntry

MAX_EVIDENCE_CHARACTERS = 500
FATES: tuple[Fate, ...] = get_args(Fate)

_UNPRINTABLE = ("Cc", "Cf", "Cs")  # control, format (bidirectional overrides too), surrogate
_TEXT_COLUMNS = ("source", "id", "fate", "reason", "evidence")
_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("fate", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("evidence", pa.string(), nullable=False),
    ]
)


class DropReason(StrEnum):
    """Why the data layer drops a row; the value is what the ledger says."""

    EMPTY_PROMPT = "empty_prompt"
    EMPTY_RESPONSE = "empty_response"
    EMPTY_TURN = "empty_turn"
    IDENTICAL_RESPONSES = "identical_responses"
    PROMPTS_DIFFER = "prompts_differ"
    RESPONSE_NOT_ONE_TURN = "response_not_one_turn"
    RESPONSE_CALLS_TOOL = "response_calls_tool"
    ROLE_ORDER = "role_order"
    HH_MALFORMED = "hh_malformed"
    TIED_SCORES = "tied_scores"
    TOO_FEW_SCORED = "too_few_scored"
    UNDESIRABLE = "undesirable"
    DUPLICATE_PAIR = "duplicate_pair"
    BROKEN_ROW = "broken_row"
    ID_REPEATED = "id_repeated"
    PROMPT_IN_TEST = "prompt_in_test"
    NOT_DRAWN = "not_drawn"
    EXCLUDED_BY_HAND = "excluded_by_hand"


QUARANTINE = frozenset((DropReason.BROKEN_ROW.value, DropReason.ID_REPEATED.value))
"""Reasons that blame the file, not the texts: rows that a strict reading does not accept."""


@dataclass(frozen=True)
class Drop:
    """The verdict on a row that cannot become a pair."""

    reason: DropReason
    evidence: str = ""


class Ledger:
    """Collects one entry for each input row, in the order of the rows."""

    def __init__(self, entries: Iterable[LedgerEntry] = ()) -> None:
        self._entries: dict[tuple[str, int], LedgerEntry] = {}
        for entry in entries:
            self.append(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(self._entries.values())

    def append(self, entry: LedgerEntry) -> None:
        """Record the fate of a row that has none yet.

        Raises:
            PenchantError: The row already has a fate, or the fate and its reason do not fit together.
        """
        key = (entry.source, entry.line)
        if key in self._entries:
            raise PenchantError("the row has a fate already", where=_place(key))
        self._entries[key] = _checked(entry)

    def revise(self, entry: LedgerEntry) -> None:
        """Give a row another fate than the one on record, as when a later stage cuts what was kept.

        Raises:
            PenchantError: The row has no fate yet, or the fate and its reason do not fit together.
        """
        key = (entry.source, entry.line)
        if key not in self._entries:
            raise PenchantError("the row has no fate to revise", where=_place(key))
        self._entries[key] = _checked(entry)

    def counts(self) -> dict[Fate, int]:
        """Return how many rows met each fate, zeros included."""
        found = Counter(entry.fate for entry in self)
        return {fate: found[fate] for fate in FATES}

    def reasons(self) -> dict[str, int]:
        """Return how many rows were cut or dropped for each reason, the most frequent first."""
        return dict(Counter(entry.reason for entry in self if entry.reason).most_common())

    def check(self, rows: Iterable[tuple[str, int]]) -> None:
        """Check that exactly these rows, given as (source, line), have a fate.

        Raises:
            PenchantError: A row has none, a row comes twice, or a fate belongs to no row.
        """
        came_in = Counter(rows)
        problems = (
            ("came in twice", [row for row, times in came_in.items() if times > 1]),
            ("has no fate", [row for row in came_in if row not in self._entries]),
            ("has a fate but never came in", [row for row in self._entries if row not in came_in]),
        )
        for problem, places in problems:
            if places:
                raise PenchantError(
                    f"a row {problem} ({len(places)} such rows)",
                    where=_place(places[0]),
                    fix="This is a defect of Penchant, not of the data; please report it.",
                )

    def write(self, path: Path) -> None:
        """Write the ledger as parquet; a reader sees the old file or the whole new one, never a part.

        Raises:
            DiskError: The file cannot be written.
        """
        table = pa.Table.from_pylist([_record(entry) for entry in self], schema=_SCHEMA)
        temporary = hidden_name(path, "tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            flush(path.parent)
        except OSError as err:
            raise DiskError(
                f"the ledger cannot be written: {err.strerror or err}",
                where=path.as_posix(),
                fix="Free some space, or choose a folder that you may write to.",
            ) from err
        finally:
            _remove_quietly(temporary)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read a ledger that `write` made.

        Raises:
            DataError: The file is missing or is no ledger.
        """
        try:
            # ParquetFile, because read_table takes folders called "name=value" for columns.
            with pq.ParquetFile(path) as file:
                table = file.read()
        except (OSError, pa.ArrowException) as err:
            raise DataError("no ledger can be read here", where=path.as_posix()) from err
        if not table.schema.equals(_SCHEMA):
            raise DataError("the columns are not those of a ledger", where=path.as_posix())
        try:
            return cls(LedgerEntry(**record) for record in table.to_pylist())
        except PenchantError as err:
            raise DataError(f"the ledger contradicts itself: {err}", where=path.as_posix()) from err


def _place(row: tuple[str, int]) -> str:
    return f"{row[0]}:{row[1]}"


def _checked(entry: LedgerEntry) -> LedgerEntry:
    """Return the entry with clean evidence, after checking that it says what a ledger can hold."""
    if entry.fate not in FATES or (entry.fate == "kept") == bool(entry.reason):
        raise PenchantError(
            f'the fate "{entry.fate}" does not go with the reason "{entry.reason}"',
            where=_place((entry.source, entry.line)),
        )
    return replace(entry, evidence=_clean(entry.evidence))


def _clean(text: str) -> str:
    """Return `text` fit for a terminal: no control or formatting characters, and not long."""
    visible = (char for char in text if char.isspace() or unicodedata.category(char) not in _UNPRINTABLE)
    return " ".join("".join(visible).split())[:MAX_EVIDENCE_CHARACTERS].rstrip()


def _record(entry: LedgerEntry) -> dict[str, str | int]:
    return {"line": entry.line} | {name: str(getattr(entry, name)) for name in _TEXT_COLUMNS}


def _remove_quietly(path: Path) -> None:
    """Remove what a failed write left; a second failure must not hide the first."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
