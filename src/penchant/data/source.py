"""The door of the data layer: rows in, pairs and the fate of every row out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from penchant.data.formats import FORMATS, DataFormat
from penchant.data.ledger import QUARANTINE, DropReason, Ledger
from penchant.data.rows import BrokenRow, RawRow, broken_rows_error, limited_rows
from penchant.errors import DataError
from penchant.types import LedgerEntry, PreferencePair


def iter_pairs(
    rows: Iterable[RawRow | BrokenRow], data_format: DataFormat
) -> Iterator[PreferencePair | LedgerEntry]:
    """Yield what each row became, in the order of the rows: a pair, or a `dropped` entry with its reason.

    Broken rows, wrong columns and repeated ids are dropped with a reason of `penchant.data.ledger.QUARANTINE`,
    exact repetitions with `duplicate_pair`. What earlier rows held is remembered as digests, not as text.

    Args:
        rows: Rows of one file or of several.
        data_format: How they are read.

    Raises:
        DataError: The first sound row lacks a column, or is no preference data.
    """
    seen = _Seen()
    checked = False
    for row in rows:
        if isinstance(row, BrokenRow):
            yield _broken(row)
            continue
        if not checked:
            data_format.check(row)
            checked = True
        yield seen.judge(row, data_format.to_pair(row))


def load_pairs(
    path: Path, *, split: str | None = None, limit: int | None = None, data_format: DataFormat = FORMATS["local"]
) -> tuple[list[PreferencePair], Ledger]:
    """Read a file, or a folder's file for a split, into pairs and the fate of every row read.

    Args:
        path: A file or folder of any layout that the format knows (see `penchant.data.rows`).
        split: Name of the file wanted from a folder, without its suffix.
        limit: Read only the first `limit` rows of the file. Rows beyond it are not read and do not
            enter the ledger; dropped rows count towards it, so fewer pairs may come back.
        data_format: How rows are read.

    Returns:
        The pairs in the order of the file, and a ledger with exactly one entry for each row read.

    Raises:
        DataError: The file or its columns cannot be used, a row is broken, an id comes twice, or no row is kept.
        UsageError: A split beside a file, or a limit below one.
    """
    pairs: list[PreferencePair] = []
    broken: list[str] = []
    ledger = Ledger()
    for outcome in iter_pairs(limited_rows(path, split=split, limit=limit), data_format):
        if isinstance(outcome, PreferencePair):
            pairs.append(outcome)
            ledger.append(LedgerEntry(outcome.source, outcome.line, outcome.id, "kept"))
            continue
        ledger.append(outcome)
        if outcome.reason in QUARANTINE:
            broken.append(f"{outcome.source}:{outcome.line}: {outcome.evidence}")
    if broken:
        raise broken_rows_error(path.as_posix(), broken)
    if not pairs:
        raise _nothing_kept(path.as_posix(), ledger)
    return pairs, ledger


def _broken(row: BrokenRow) -> LedgerEntry:
    reason = DropReason.BROKEN_ROW.value
    return LedgerEntry(row.source, row.line, f"{row.stem}-{row.line}", "dropped", reason, row.reason)


@dataclass
class _Seen:
    """What earlier rows held, by the place where it was first seen."""

    ids: dict[str, tuple[str, int]] = field(default_factory=dict)
    texts: dict[bytes, tuple[str, int]] = field(default_factory=dict)

    def judge(self, row: RawRow, outcome: PreferencePair | LedgerEntry) -> PreferencePair | LedgerEntry:
        """Return the outcome, or a drop when the row's id or its texts came before."""
        place = (row.source, row.line)
        first = self.ids.setdefault(outcome.id, place)
        if first is not place:
            evidence = f"the id of {_line(first, row.source)} comes again"
            return _dropped(row, outcome.id, DropReason.ID_REPEATED, evidence)
        if isinstance(outcome, LedgerEntry):
            return outcome
        first = self.texts.setdefault(pair_digest(outcome), place)
        if first is place:
            return outcome
        return _dropped(row, outcome.id, DropReason.DUPLICATE_PAIR, f"same as {_line(first, row.source)}")


def _dropped(row: RawRow, name: str, reason: DropReason, evidence: str) -> LedgerEntry:
    return LedgerEntry(row.source, row.line, name, "dropped", reason.value, evidence)


def _line(place: tuple[str, int], source: str) -> str:
    """Name an earlier row, seen from one of `source`."""
    return f"line {place[1]}" if place[0] == source else f"{place[0]}:{place[1]}"


def pair_digest(pair: PreferencePair) -> bytes:
    """Return 16 bytes that pairs of the same texts share. Lengths keep neighbouring texts apart."""
    digest = hashlib.blake2b(digest_size=16)
    turns = ((turn.role, turn.content, turn.tool_calls) for turn in (*pair.prompt, *pair.chosen_lead))
    more = ((turn.role, turn.content, turn.tool_calls) for turn in pair.rejected_lead)
    for part in (*turns, ("chosen", pair.chosen), *more, ("rejected", pair.rejected)):
        for text in part:
            data = text.encode("utf-8")
            digest.update(b"%d:" % len(data))
            digest.update(data)
    return digest.digest()


def _nothing_kept(source: str, ledger: Ledger) -> DataError:
    reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.reasons().items())
    return DataError(f"none of the {len(ledger)} rows can be used: {reasons}", where=source)
