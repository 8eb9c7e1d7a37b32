"""Every row that came in, with what became of it and what it says: ledger and files, put together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from penchant.data.formats import FORMATS, DataFormat
from penchant.data.ledger import Ledger
from penchant.data.rows import BrokenRow, RawRow, iter_rows
from penchant.data.source import iter_pairs
from penchant.errors import DataError, PenchantError
from penchant.types import LedgerEntry, PreferencePair
from penchant.web.data_sources import DataSource, formats_of, splits_of

GONE = "The file that this row came from cannot be read any more, or not from here."
CHANGED = "The file that this row came from has changed since: another row stands in its place."


@dataclass(frozen=True)
class BrowsedRow:
    """A row that came in.

    Attributes:
        entry: What became of it.
        split: The split that it is in, "" where there are none.
        pair: What it says as a pair; None where it makes none, or cannot be read.
        raw: Its columns, where it makes no pair and can be read.
        note: Why there is no text, "" where there is some.
    """

    entry: LedgerEntry
    split: str = ""
    pair: PreferencePair | None = None
    raw: Mapping[str, Any] | None = None
    note: str = ""


def browsed_rows(source: DataSource) -> Iterator[BrowsedRow]:
    """Yield every row of a source: each one of its ledger, or of its files where there is none, exactly once.

    Raises:
        DataError: The ledger or the file cannot be read, or holds no rows.
    """
    if source.kind == "run":
        yield from _of_run(source)
    elif source.kind == "prepared":
        yield from _of_prepared(source.path)
    else:
        yield from _of_file(source)


def _of_file(source: DataSource) -> Iterator[BrowsedRow]:
    """Rows of files without a ledger: reading them says what becomes of each."""
    for split in splits_of(source, source.path):
        rows = iter_rows(source.path, split=split)
        first = next(rows, None)
        if first is None:
            raise DataError("the file holds no rows", where=source.path.as_posix())
        rows = chain([first], rows)
        data_format, rows = _fitting(formats_of(source), rows)
        last: list[RawRow | BrokenRow] = []
        for outcome in iter_pairs(_watched(rows, last), data_format):
            yield _with_text(outcome, last[0], data_format, split or "")


def _watched(rows: Iterable[RawRow | BrokenRow], last: list[RawRow | BrokenRow]) -> Iterator[RawRow | BrokenRow]:
    for row in rows:
        last[:] = [row]
        yield row


def _fitting(
    formats: tuple[DataFormat, ...], rows: Iterable[RawRow | BrokenRow]
) -> tuple[DataFormat, Iterator[RawRow | BrokenRow]]:
    """The format that reads the first sound row, and the rows from the beginning."""
    rows = iter(rows)
    begun: list[RawRow | BrokenRow] = []
    for row in rows:
        begun.append(row)
        if isinstance(row, RawRow):
            return _first_that_reads(formats, row), chain(begun, rows)
    return formats[0], iter(begun)


def _first_that_reads(formats: tuple[DataFormat, ...], row: RawRow) -> DataFormat:
    for data_format in formats[1:]:
        try:
            formats[0].check(row)
            break
        except DataError:
            try:
                data_format.check(row)
            except DataError:
                continue
            return data_format
    return formats[0]


def _with_text(
    outcome: PreferencePair | LedgerEntry, row: RawRow | BrokenRow, data_format: DataFormat, split: str
) -> BrowsedRow:
    if isinstance(outcome, PreferencePair):
        return BrowsedRow(LedgerEntry(outcome.source, outcome.line, outcome.id, "kept"), split, outcome)
    return _matched(outcome, row, data_format, split)


def _of_run(source: DataSource) -> Iterator[BrowsedRow]:
    """Rows of a run's ledger, with the texts of the file that it was trained on."""
    entries = {entry.line: entry for entry in Ledger.read(source.path / "ledger.parquet")}
    [data_format, *_] = formats_of(source)
    data = source.data_path()
    if data is not None and data.exists():
        split = splits_of(source, data)[0]
        try:
            for row in iter_rows(data, split=split):
                if (entry := entries.pop(row.line, None)) is not None:
                    yield _matched(entry, row, data_format, split or "")
                if not entries:
                    break
        except PenchantError:  # the rest is listed without its text
            pass
    yield from (BrowsedRow(entry, note=GONE) for entry in entries.values())


def _of_prepared(folder: Path) -> Iterator[BrowsedRow]:
    """Rows of a prepared folder's ledger: what was kept from its files, what was dropped from its sources."""
    ledger = Ledger.read(folder / "ledger.parquet")
    kept = dict(_kept_rows(folder))
    lines: dict[str, set[int]] = {}
    for entry in ledger:
        if entry.fate == "dropped":
            lines.setdefault(entry.source, set()).add(entry.line)
    origins = {source: _origin_rows(Path(source), wanted) for source, wanted in lines.items()}
    formats = _card_formats(folder)
    for entry in ledger:
        if entry.fate != "dropped":
            split, pair = kept.get((entry.source, entry.line), ("", None))
            yield BrowsedRow(entry, split, pair, note="" if pair is not None else CHANGED)
            continue
        row = origins[entry.source].get(entry.line)
        data_format = formats.get(Path(entry.source).name, FORMATS["local"])
        yield BrowsedRow(entry, note=GONE) if row is None else _matched(entry, row, data_format, "")


def _kept_rows(folder: Path) -> Iterator[tuple[tuple[str, int], tuple[str, PreferencePair]]]:
    """The pairs of the splits, by the place of the input row that each was made of."""
    source = DataSource(folder.name, "prepared", folder)
    for split in splits_of(source, folder):
        for row in iter_rows(folder, split=split):
            if isinstance(row, BrokenRow):
                continue
            pair, made_of = FORMATS["local"].to_pair(row), row.values.get("metadata")
            if isinstance(pair, PreferencePair) and isinstance(made_of, dict):
                yield (str(made_of.get("input")), int(made_of.get("line") or 0)), (split or "", pair)


def _origin_rows(path: Path, lines: set[int]) -> dict[int, RawRow | BrokenRow]:
    """The rows of these lines, as far as the file is still there."""
    found: dict[int, RawRow | BrokenRow] = {}
    if not path.is_file():  # a repository on the Hub, or a file that is gone
        return found
    try:
        for row in iter_rows(path):
            if row.line in lines:
                found[row.line] = row
            if len(found) == len(lines):
                break
    except PenchantError:
        return found
    return found


def _card_formats(folder: Path) -> dict[str, DataFormat]:
    """By the name of a source's file, how the card says that it was read."""
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        named = {str(one["from"]): str(one["format"]) for one in card["sources"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {place: FORMATS[name] for place, name in named.items() if name in FORMATS}


def _matched(entry: LedgerEntry, row: RawRow | BrokenRow, data_format: DataFormat, split: str) -> BrowsedRow:
    """The entry with the row's text, if it is the row that the entry is about."""
    if isinstance(row, BrokenRow):
        return BrowsedRow(entry, split, note=f"This is no row that can be read: {row.reason}.")
    try:
        outcome = data_format.to_pair(row)
    except DataError:  # the file holds other data by now
        return BrowsedRow(entry, split, note=CHANGED)
    if entry.id != outcome.id and not entry.id.endswith(f":{outcome.id}"):  # in a mix it is SOURCE:ID
        return BrowsedRow(entry, split, note=CHANGED)
    if isinstance(outcome, LedgerEntry):
        return BrowsedRow(entry, split, raw=row.values)
    return BrowsedRow(entry, split, replace(outcome, id=entry.id))
