"""An arena's file: what is voted on, and every vote, in SQLite.

A vote that was acknowledged is on the disk (write-ahead log, `synchronous = FULL`). Rows are only ever added,
and triggers see to that: undo adds a row that takes the last vote back. A showing can be voted on once an
attempt, so a double click, a reloaded page and a file that is read twice are one vote.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from penchant.errors import DataError, DiskError
from penchant.evaluation.arena.contest import Contest, Showing, contest_of, showings
from penchant.evaluation.arena.vote_file import check_ours, connect, explained, write_arena_file
from penchant.evaluation.arena.votes import Choice, Vote

_COLUMNS = "number, series, rater, position, attempt, entry, swapped, repeat, choice, at"
_STANDING = (
    f"SELECT {_COLUMNS} FROM votes AS v WHERE kind = 'vote' AND NOT EXISTS (SELECT 1 FROM votes AS u WHERE "
    "u.kind = 'undo' AND u.series = v.series AND u.rater = v.rater AND u.position = v.position "
    "AND u.attempt = v.attempt)"
)

Outcome = Literal["new", "same", "other", "old"]


@dataclass(frozen=True)
class Standing:
    """How far a rater is in a series.

    Attributes:
        showing: What comes next; None at the end.
        attempt: How many votes on it were taken back.
        done: Showings voted on.
        total: Showings of the series.
        last: The vote that undo would take back; None where there is none.
    """

    showing: Showing | None
    attempt: int
    done: int
    total: int
    last: Vote | None


class Arena:
    """An open arena; several threads, and several processes with the same file, may use it. See `open_arena`.

    Args:
        connection: To the file.
        path: The file, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path
        self._lock = threading.Lock()

    @cached_property
    def contest(self) -> Contest:
        """What is voted on."""
        try:
            return _contest(self._text)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"its contest cannot be read ({error})", where=str(self.path)) from error

    @cached_property
    def _text(self) -> str:
        return self.note("contest") or ""

    def showings(self, series: str) -> tuple[Showing, ...]:
        """Return what a series shows, see `penchant.evaluation.arena.contest.showings`."""
        return _showings(self._text, series)

    def standing(self, series: str, rater: str) -> Standing:
        """Return how far a rater is: the first showing without a vote that stands is next."""
        shown = self.showings(series)
        with self._reading() as ask:
            votes = [
                _vote(row)
                for row in ask(f"{_STANDING} AND series = ? AND rater = ? ORDER BY number", series, rater)
            ]
            voted = {vote.position for vote in votes}
            following = next((one for one in shown if one.position not in voted), None)
            attempts = [(0,)]
            if following is not None:
                attempts = ask(
                    "SELECT COUNT(*) FROM votes WHERE kind = 'undo' AND series = ? AND rater = ? AND position = ?",
                    series,
                    rater,
                    following.position,
                )
        return Standing(following, attempts[0][0], len(voted), len(shown), votes[-1] if votes else None)

    def cast(self, series: str, rater: str, position: int, attempt: int, choice: Choice) -> Outcome:
        """Keep a vote; when this returns it is on the disk.

        "new"; or "same" where this showing has had this very vote already, "other" where it had another one, which
        stays, and "old" where the page was shown before a vote on it was taken back: nothing is kept then.

        Args:
            series: Whose showings.
            rater: Who votes.
            position: Which showing.
            attempt: How many votes on it were taken back when it was shown.
            choice: What was chosen.

        Raises:
            DataError: There is no such showing.
            DiskError: The vote cannot be kept.
        """
        shown = self.showings(series)
        if not 0 <= position < len(shown):
            raise DataError("there is no such pair of answers in this arena", where=str(self.path))
        showing = shown[position]
        key = (series, rater, position)
        with self._writing() as ask:
            known = ask(
                "SELECT choice FROM votes WHERE kind = 'vote' AND series = ? AND rater = ? AND position = ? "
                "AND attempt = ?",
                *key,
                attempt,
            )
            undone = ask(
                "SELECT COUNT(*) FROM votes WHERE kind = 'undo' AND series = ? AND rater = ? AND position = ?",
                *key,
            )[0][0]
            if attempt != undone:
                return "old"
            if known:
                return "same" if known[0][0] == choice else "other"
            about = (self.contest.entries[showing.entry].id, showing.swapped, showing.repeat, choice)
            self._add(ask, key, attempt, "vote", about)
        return "new"

    def undo(self, series: str, rater: str, position: int, attempt: int) -> bool:
        """Take a vote back, and return whether it stood until now; it stays in the file beside what takes it back.

        Args:
            series: Whose showings.
            rater: Whose vote.
            position: On which showing.
            attempt: Which of the votes on it.

        Raises:
            DiskError: That cannot be kept.
        """
        key = (series, rater, position)
        with self._writing() as ask:
            found = ask(
                f"{_STANDING} AND series = ? AND rater = ? AND position = ? AND attempt = ?", *key, attempt
            )
            if not found:
                return False
            vote = _vote(found[0])
            self._add(ask, key, attempt, "undo", (vote.entry, vote.swapped, vote.repeat, ""))
        return True

    def votes(self) -> list[Vote]:
        """Return the votes that stand, in the order in which they came."""
        with self._reading() as ask:
            return [_vote(row) for row in ask(f"{_STANDING} ORDER BY number")]

    def keep_note(self, name: str, value: str) -> None:
        """Keep a fact about the arena under a name, once; a second one under the same name changes nothing."""
        with self._writing() as ask:
            ask("INSERT OR IGNORE INTO about VALUES (?, ?)", name, value)

    def note(self, name: str) -> str | None:
        """Return the fact that was kept under a name, None where there is none."""
        with self._reading() as ask:
            found = ask("SELECT value FROM about WHERE name = ?", name)
        return found[0][0] if found else None

    def _add(
        self, ask: _Ask, key: tuple[str, str, int], attempt: int, kind: str, about: tuple[str, bool, bool, str]
    ) -> None:
        ask(
            "INSERT INTO votes (series, rater, position, attempt, kind, entry, swapped, repeat, choice, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *key,
            attempt,
            kind,
            *about,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[_Ask]:
        with self._lock, explained(self.path):
            yield _Ask(self._connection)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[_Ask]:
        """A transaction that no other writer comes between."""
        with self._lock, explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Ask(self._connection)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@lru_cache(maxsize=4)
def _contest(text: str) -> Contest:
    """The contest that a text stands for: every vote opens the file anew, and its text stays the same."""
    return contest_of(json.loads(text))


@lru_cache(maxsize=64)
def _showings(text: str, series: str) -> tuple[Showing, ...]:
    return showings(_contest(text), series)


class _Ask:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __call__(self, statement: str, *values: object) -> list[tuple]:
        return self._connection.execute(statement, values).fetchall()


def create_arena(path: Path, contest: Contest) -> None:
    """Write an arena's file.

    Raises:
        DiskError: It cannot be written, or there is such a file.
    """
    if path.exists():
        raise DiskError("there is such a file already", where=str(path), fix="Choose another one with --votes.")
    write_arena_file(path, json.dumps(contest.as_json(), ensure_ascii=True))


@contextlib.contextmanager
def open_arena(path: Path, *, reading: bool = False) -> Iterator[Arena]:
    """Open an arena's file.

    Args:
        path: The file.
        reading: Only to read, which also works where nothing can be written.

    Raises:
        DataError: There is no such file, or it is something else.
        DiskError: It cannot be read or written.
    """
    if not path.is_file():
        raise DataError("there is no such arena", where=str(path), fix="Begin one: penchant arena RUN.")
    connection = connect(path, reading=reading)
    with contextlib.closing(connection):
        with explained(path):
            check_ours(connection, path)
            if not reading:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        yield Arena(connection, path)


def _vote(row: Sequence) -> Vote:
    number, series, rater, position, attempt, entry, swapped, repeat, choice, at = row
    return Vote(number, series, rater, position, attempt, entry, bool(swapped), bool(repeat), choice, at)
