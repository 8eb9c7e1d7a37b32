"""An arena's file as SQLite has it: what is in it, how it is opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from penchant.data.atomic import flush
from penchant.errors import DataError, DiskError, PenchantError

APPLICATION = 0x50656E63  # "Penc"; SQLite keeps it in the file's head
_VERSION = 1
_BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE votes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    series TEXT NOT NULL, rater TEXT NOT NULL, position INTEGER NOT NULL, attempt INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('vote', 'undo')),
    entry TEXT NOT NULL, swapped INTEGER NOT NULL, repeat INTEGER NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'bad', 'skip', '')),
    at TEXT NOT NULL,
    UNIQUE (series, rater, position, attempt, kind)
);
CREATE TRIGGER votes_stay BEFORE UPDATE ON votes BEGIN SELECT RAISE(ABORT, 'votes are never changed'); END;
CREATE TRIGGER votes_remain BEFORE DELETE ON votes BEGIN SELECT RAISE(ABORT, 'votes are never deleted'); END;
"""


def write_arena_file(path: Path, contest: str) -> None:
    """Write a new arena's file, whole or not at all.

    Args:
        path: The file.
        contest: What it is about, as text.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(unfinished)) as connection:
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("INSERT INTO about VALUES ('contest', ?)", (contest,))
            connection.commit()
        flush(unfinished)
        unfinished.replace(path)
        flush(path.parent)


def is_arena(path: Path) -> bool:
    """Return whether a file is an arena's, by its head."""
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION.to_bytes(4, "big")


def connect(path: Path, *, reading: bool) -> sqlite3.Connection:
    """Return a connection in which each statement is a transaction of its own; one only to read writes nothing."""
    log = path.with_name(f"{path.name}-wal")
    # without a log nothing is left to be merged, and a file on a read-only disk can be taken as it is
    settled = reading and not (log.exists() and log.stat().st_size)
    mode = "mode=ro&immutable=1" if settled and not _writable(path) else "mode=ro" if reading else "mode=rw"
    with explained(path):
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def check_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a file is an arena of this version.

    Raises:
        DataError: It is something else.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise DataError("this is no arena of Penchant", where=str(path), fix="Name another file with --votes.")
    if version != _VERSION:
        raise DataError(
            f"this arena is of version {version}, and this Penchant knows version {_VERSION}",
            where=str(path),
            fix="Open it with the Penchant that made it.",
        )


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite or the system say about a file into an error with a remedy."""
    try:
        yield
    except PenchantError:
        raise
    except (sqlite3.Error, OSError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DiskError(
                "another program keeps this file locked",
                where=str(path),
                fix="Close what has it open (a database browser?), and vote again.",
            ) from error
        if code is not None and code & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise DataError(
                f"this is no arena of Penchant, or a damaged one ({error})",
                where=str(path),
                fix="Name another file with --votes.",
            ) from error
        raise DiskError(
            f"votes cannot be kept or read here ({error})",
            where=str(path),
            fix="Choose a file on a disk of this machine that you may write to, with space left.",
        ) from error
