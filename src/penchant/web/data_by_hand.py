"""Rows that somebody leaves out while browsing: a list a data set, beside the runs, never in the data."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from penchant.data.exclusions import Exclusion, read_exclusions, said_digest, with_row, write_exclusions
from penchant.errors import UsageError
from penchant.types import PreferencePair
from penchant.web.data_sources import DataSource

MOST_REASON = 500  # characters
_AT_ONCE = 500


class ByHand:
    """The lists of all sources in one folder.

    Args:
        folder: Where they lie; None where nothing can be left out.
        paths: The data that is shown, in which the folder must not be.

    Raises:
        UsageError: The folder is in the data.
    """

    def __init__(self, folder: Path | None, paths: Sequence[Path]) -> None:
        for path in paths:
            if folder is not None and path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
                raise UsageError(
                    f"{folder} is in the data {path}, which is never written to",
                    fix="Name another folder for the lists of rows that are left out.",
                )
        self._folder = folder
        self._lock = threading.Lock()

    def file(self, source: DataSource) -> Path | None:
        """Return the list of a source's data: runs on the same data share one; None where there is none."""
        data = source.data_path()
        if self._folder is None or data is None:
            return None
        return self._folder / f"{DataSource(data.name, 'file', data).key}.jsonl"

    def listed(self, source: DataSource) -> dict[str, Exclusion]:
        """Return the rows of a source that are left out, by id.

        Raises:
            DataError: The list cannot be read.
        """
        file = self.file(source)
        return read_exclusions(file) if file is not None and file.is_file() else {}

    def leave_out(self, source: DataSource, pair: PreferencePair, reason: str) -> None:
        """Put a row on the list.

        Raises:
            UsageError: There is no list.
            DiskError: It cannot be written.
        """
        place = f"{pair.source}:{pair.line}"
        one = Exclusion(pair.id, said_digest(pair), place, reason[:MOST_REASON])
        with self._lock:
            write_exclusions(self._file(source), with_row(self.listed(source), one))

    def put_back(self, source: DataSource, pair_id: str) -> None:
        """Take a row off the list.

        Raises:
            UsageError: There is no list.
            DiskError: It cannot be written.
        """
        with self._lock:
            kept = [one for one in self.listed(source).values() if one.id != pair_id]
            write_exclusions(self._file(source), kept)

    def _file(self, source: DataSource) -> Path:
        file = self.file(source)
        if file is None:
            raise UsageError("nothing can be left out here", fix="Start `penchant ui` with a folder of runs.")
        return file


def numbers_of(connection: sqlite3.Connection, ids: Iterable[str]) -> list[int]:
    """Return the numbers of the rows of an index that have one of these ids, in order."""
    wanted = list(ids)
    found: list[int] = []
    for start in range(0, len(wanted), _AT_ONCE):
        some = [one.encode("utf-8", "replace").decode() for one in wanted[start : start + _AT_ONCE]]
        marks = ",".join("?" * len(some))
        found += [row[0] for row in connection.execute(f"SELECT number FROM labels WHERE id IN ({marks})", some)]
    return sorted(found)
