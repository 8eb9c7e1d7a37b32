"""The index of a source's rows: one SQLite file in the user's cache, found again by what it was made of.

It is written under a hidden name and moved into place whole, so two processes that build the same one at once only
work twice. What was made by another version, or of files that have changed since, has another name; a file that
turns out to be damaged is removed and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from penchant import __version__
from penchant.config import StrengthConfig
from penchant.data.atomic import disk_errors, flush, hidden_name
from penchant.data.lint import pair_hits
from penchant.data.statistics import pair_length
from penchant.data.strength import Responses, judge_all, sufficient_difference
from penchant.data.tagging import Tagger
from penchant.models.bundled import cache_directory
from penchant.types import PreferencePair, Turn
from penchant.web.data_rows import BrowsedRow, browsed_rows
from penchant.web.data_search import words_of
from penchant.web.data_sources import DataSource, thresholds_of

VERSION = 1
MOST_LINTED = 200_000  # pairs; the checks across rows hold all of them in memory
BEGINNING = 200  # characters of a prompt's last turn
PASSES = "passes"

Progress = Callable[[str, int], None]
_NO_TAGGER = Tagger("none", "", lambda _: 0)  # no quick rule asks it

_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_SCHEMA = """
CREATE TABLE kinds(kind INTEGER PRIMARY KEY, fate TEXT, reason TEXT, split TEXT, source TEXT, rule TEXT);
CREATE TABLE rows(number INTEGER PRIMARY KEY, kind INTEGER, gap INTEGER, longest INTEGER, difference REAL,
    margin REAL);
CREATE TABLE labels(number INTEGER PRIMARY KEY, id TEXT, place TEXT, line INTEGER, evidence TEXT, beginning TEXT,
    prompt_words INTEGER, chosen_words INTEGER, rejected_words INTEGER);
CREATE TABLE texts(number INTEGER PRIMARY KEY, body BLOB);
CREATE TABLE flags(name TEXT, number INTEGER, other INTEGER, PRIMARY KEY(name, number)) WITHOUT ROWID;
CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT);
CREATE VIRTUAL TABLE words USING fts5(prompt, chosen, rejected, id, content='', columnsize=0,
    tokenize="ascii tokenchars '_'");
"""
SORTS: dict[str, tuple[str, str]] = {
    "": ("order of the file", "number"),
    "longer": ("chosen longer first", "coalesce(-gap, 1e9)"),
    "shorter": ("chosen shorter first", "coalesce(gap, 1e9)"),
    "alike": ("most alike first", "coalesce(difference, 9)"),
    "unlike": ("least alike first", "coalesce(-difference, 9)"),
    "longest": ("longest response first", "coalesce(-longest, 1e9)"),
    "margin": ("largest margin in the data first", "coalesce(-margin, 1e300)"),
}
"""What rows can be sorted by: its name on the page, and by what, from small to large; then by their numbers."""

_AFTERWARDS = """
CREATE INDEX rows_by_kind ON rows(kind);
CREATE INDEX flags_of ON flags(number);
CREATE INDEX flags_to ON flags(other);
CREATE INDEX labels_by_id ON labels(id);
"""


@dataclass(frozen=True)
class RowText:
    """What the index keeps of a row's text.

    Attributes:
        pair: The row as a pair, None where it makes none.
        raw: Its columns, where it makes none and could be read.
        note: Why there is no text, "" where there is some.
    """

    pair: PreferencePair | None
    raw: Mapping[str, Any] | None
    note: str


@dataclass
class _Look:
    """How rows are looked at, and the kinds that were seen: fate, reason, split, source, rule.

    Of a prepared folder only the rows that were kept say where they are from; so there the file counts.
    """

    thresholds: StrengthConfig
    by_origin: bool
    kinds: dict[tuple[str, ...], int] = field(default_factory=dict)


def index_folder() -> Path:
    """Return where all indexes lie; everything in it may be deleted."""
    return cache_directory() / "data-browser"


def index_path(source: DataSource) -> Path:
    """Return where the index of a source as it is now belongs, whether or not it is there."""
    digest = hashlib.blake2b(f"{VERSION} {__version__} {source.kind}".encode(), digest_size=8)
    for file in source.files():
        try:
            stat = file.stat()
            what = f"{file.resolve()}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        except OSError:
            what = f"{file}\0absent"
        digest.update(what.encode("utf-8", "surrogateescape") + b"\n")
    return index_folder() / f"{source.key}.{digest.hexdigest()}.sqlite"


def build_index(source: DataSource, path: Path, progress: Progress) -> None:
    """Make the index of a source; it is there whole or not at all. Older ones of the source are removed.

    Args:
        source: Its rows.
        path: See `index_path`.
        progress: Hears what is being done, and how many rows are through.

    Raises:
        DataError: The rows cannot be read.
        DiskError: There is no room or no permission.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = hidden_name(path, "tmp")
    try:
        with contextlib.closing(sqlite3.connect(unfinished)) as connection:
            _fill(connection, source, progress)
        with disk_errors(path):
            flush(unfinished)
            os.replace(unfinished, path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _OF_THE_DISK:
            raise
        with disk_errors(path):
            raise OSError(0, str(error)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    for old in path.parent.glob(f"{source.key}.*.sqlite"):
        if old != path:
            with contextlib.suppress(OSError):
                old.unlink()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that reads the index.

    Raises:
        sqlite3.DatabaseError: It is damaged, or no index of this version.
    """
    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
    with contextlib.closing(connection):
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA mmap_size={1 << 30}")
        if facts_of(connection).get("version") != str(VERSION):
            raise sqlite3.DatabaseError("this is no index of this version")
        yield connection


def facts_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Return what the index says of itself: `rows`, `linted` (1 or 0), `version`."""
    return dict(tuple(row) for row in connection.execute("SELECT name, value FROM facts"))


def text_of(connection: sqlite3.Connection, number: int) -> RowText:
    """Return the text of a row.

    Raises:
        KeyError: There is no such row.
    """
    found = connection.execute("SELECT body FROM texts WHERE number = ?", (number,)).fetchone()
    if found is None:
        raise KeyError(number)
    body = json.loads(zlib.decompress(found[0]))
    return RowText(None if body["pair"] is None else _unpacked(body["pair"]), body["raw"], body["note"])


# ---------------------------------------------------------------------------------------------- building


def _fill(connection: sqlite3.Connection, source: DataSource, progress: Progress) -> None:
    connection.executescript(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;" + _SCHEMA
    )
    splits: dict[str, list[PreferencePair]] = {}
    numbers: dict[int, int] = {}  # by the identity of a pair that is held
    look = _Look(quick_strength(thresholds_of(source)), source.kind != "prepared")
    count = 0
    with connection:
        for count, row in enumerate(browsed_rows(source), 1):
            _insert(connection, count, row, look)
            if row.pair is not None and row.entry.fate != "dropped":
                splits.setdefault(row.split, []).append(row.pair)
                numbers[id(row.pair)] = count
            if count % 200 == 0:
                progress("Reading rows", count)
        linted = len(numbers) <= MOST_LINTED
        if linted:
            progress("Comparing pairs with each other", len(numbers))
            hits = (
                (check, numbers[id(hit.row.pair)], numbers[id(hit.other.pair)] if hit.other else None)
                for check, hit in pair_hits(splits)
            )
            connection.executemany("INSERT OR IGNORE INTO flags VALUES (?, ?, ?)", hits)
        progress("Finishing", count)
        connection.executemany(
            "INSERT INTO kinds VALUES (?,?,?,?,?,?)", ((kind, *of) for of, kind in look.kinds.items())
        )
        facts = {"version": str(VERSION), "rows": str(count), "linted": str(int(linted))}
        connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
    connection.executescript(_AFTERWARDS)
    for name, (_, key) in SORTS.items():
        if name:
            connection.execute(f"CREATE INDEX by_{name} ON rows({key})")


def _insert(connection: sqlite3.Connection, number: int, row: BrowsedRow, look: _Look) -> None:
    entry, pair = row.entry, row.pair
    words = pair_length(pair) if pair is not None else None
    rule, difference = _strength(pair, look.thresholds)
    origin = pair.origin if pair is not None and look.by_origin else ""
    source = origin or Path(entry.source).name or entry.source
    kind = look.kinds.setdefault(
        (entry.fate, entry.reason, row.split, storable(source), rule), len(look.kinds) + 1
    )
    gap, longest = (words.chosen - words.rejected, max(words[1:3])) if words else (None, None)
    connection.execute(
        "INSERT INTO rows VALUES (?,?,?,?,?,?)", (number, kind, gap, longest, difference, _margin(pair))
    )
    prompt, chosen, rejected = _searched(row)
    beginning = " ".join((pair.prompt[-1].content if pair and pair.prompt else prompt)[: 3 * BEGINNING].split())
    label = (storable(entry.id), storable(entry.source), entry.line, storable(entry.evidence))
    counts = words[:3] if words else (None, None, None)
    connection.execute(
        "INSERT INTO labels VALUES (?,?,?,?,?,?,?,?,?)", (number, *label, storable(beginning[:BEGINNING]), *counts)
    )
    body = json.dumps(
        {"pair": None if pair is None else _packed(pair), "raw": row.raw, "note": row.note}, default=str
    )
    connection.execute("INSERT INTO texts VALUES (?,?)", (number, zlib.compress(body.encode(), 1)))
    texts = (" ".join(words_of(text)) for text in (prompt, chosen, rejected, entry.id))
    connection.execute(
        "INSERT INTO words(rowid, prompt, chosen, rejected, id) VALUES (?,?,?,?,?)", (number, *texts)
    )


def storable(text: str) -> str:
    """Return text as SQLite can hold it: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _searched(row: BrowsedRow) -> tuple[str, str, str]:
    """What is searched as prompt, chosen and rejected; the columns of a row that is no pair count as prompt."""
    pair = row.pair
    if pair is None:
        return (json.dumps(row.raw, ensure_ascii=False, default=str) if row.raw else ""), "", ""
    sides = ((pair.chosen_lead, pair.chosen), (pair.rejected_lead, pair.rejected))
    chosen, rejected = ("\n".join([*(turn.content for turn in lead), text]) for lead, text in sides)
    return "\n".join(turn.content for turn in pair.prompt), chosen, rejected


def _strength(pair: PreferencePair | None, thresholds: StrengthConfig) -> tuple[str, float | None]:
    """The first quick rule that objects, and which share of words is not shared; of a single response nothing."""
    if pair is None or not pair.rejected:
        return "", None
    verdicts = judge_all(pair, thresholds, _NO_TAGGER)
    first = next((verdict.rule for verdict in verdicts if not verdict.keep), PASSES)
    shared = sufficient_difference(Responses(pair.chosen, pair.rejected, _NO_TAGGER), 0.0)  # also where it is off
    return first, shared.figure


def quick_strength(thresholds: StrengthConfig | None = None) -> StrengthConfig:
    """Return thresholds, by default the default ones, without the rule that tags."""
    config = thresholds or StrengthConfig()  # type: ignore[call-arg]  # pydantic fills it in
    return config.model_copy(update={"nouns_and_verbs": None})


def _margin(pair: PreferencePair | None) -> float | None:
    if pair is None or pair.margin is not None or pair.score_chosen is None or pair.score_rejected is None:
        return pair.margin if pair is not None else None
    return pair.score_chosen - pair.score_rejected


_TURNS = ("prompt", "chosen_lead", "rejected_lead")


def _packed(pair: PreferencePair) -> dict[str, Any]:
    turns = {name: [[one.role, one.content, one.tool_calls] for one in getattr(pair, name)] for name in _TURNS}
    return {**vars(pair), **turns}


def _unpacked(values: Mapping[str, Any]) -> PreferencePair:
    turns = {name: tuple(Turn(*one) for one in values[name]) for name in _TURNS}
    return PreferencePair(**{**values, **turns})
