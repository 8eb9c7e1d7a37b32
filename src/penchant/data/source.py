"""The door of the data layer: a path in, pairs and their ledger out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from penchant.data.ledger import DropReason, Ledger
from penchant.data.normalise import to_pair
from penchant.data.rows import RawRow, read_rows
from penchant.errors import DataError
from penchant.types import LedgerEntry, PreferencePair, Turn


def load_pairs(
    path: Path, *, split: str | None = None, limit: int | None = None
) -> tuple[list[PreferencePair], Ledger]:
    """Read a file, or a folder's file for a split, into pairs and the fate of every row read.

    Args:
        path: A `.jsonl`, `.jsonl.gz` or `.json` file, or a folder (see `penchant.data.rows`).
        split: Name of the file wanted from a folder, without its suffix.
        limit: Read only the first `limit` rows of the file. Rows beyond it are not read and do not
            enter the ledger; dropped rows count towards it, so fewer pairs may come back.

    Returns:
        The pairs in the order of the file, and a ledger with exactly one entry for each row read.

    Raises:
        DataError: The file or its columns cannot be used, two rows share an id, or no row is kept.
        UsageError: A split beside a file, or a limit below one.
    """
    rows = read_rows(path, split=split, limit=limit)
    pairs: list[PreferencePair] = []
    ledger = Ledger()
    seen = _Seen()
    for row in rows:
        outcome = seen.judge(row, to_pair(row))
        if isinstance(outcome, PreferencePair):
            pairs.append(outcome)
            outcome = LedgerEntry(row.source, row.line, outcome.id, "kept")
        ledger.append(outcome)
    ledger.check((row.source, row.line) for row in rows)
    if not pairs:
        raise _nothing_kept(rows[0].source, ledger)
    return pairs, ledger


@dataclass
class _Seen:
    """What earlier rows held, by the line it was first seen on."""

    ids: dict[str, int] = field(default_factory=dict)
    texts: dict[tuple[tuple[Turn, ...], str, str], int] = field(default_factory=dict)

    def judge(self, row: RawRow, outcome: PreferencePair | LedgerEntry) -> PreferencePair | LedgerEntry:
        """Return the outcome, or a drop when the pair is an exact repetition.

        Raises:
            DataError: An earlier row has the same id.
        """
        first = self.ids.setdefault(outcome.id, row.line)
        if first != row.line:
            raise DataError(
                f"the id of line {first} comes again",
                where=row.place,
                fix='Make the "id" column unique, or leave it out.',
            )
        if isinstance(outcome, LedgerEntry):
            return outcome
        first = self.texts.setdefault((outcome.prompt, outcome.chosen, outcome.rejected), row.line)
        if first == row.line:
            return outcome
        reason = DropReason.DUPLICATE_PAIR.value
        return LedgerEntry(row.source, row.line, outcome.id, "dropped", reason, f"same as line {first}")


def _nothing_kept(source: str, ledger: Ledger) -> DataError:
    reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.reasons().items())
    return DataError(f"none of the {len(ledger)} rows can be used: {reasons}", where=source)
