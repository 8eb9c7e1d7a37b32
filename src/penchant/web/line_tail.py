"""Reading a file of lines that another process appends to, perhaps on another machine: only what is new."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = 1 << 24  # bytes, about what is read at once
_MARK = 64  # bytes before where reading ended: they tell whether the file is still the one that was read


class Line(NamedTuple):
    """A whole line: where it begins in the file, in bytes, and what stands in it without its end."""

    start: int
    text: bytes


class LineTail:
    """The whole lines of a file as they come. A last line without an end is one that is being written: it waits.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._end, self._mark = 0, 0, b""

    def read(self) -> tuple[bool, list[Line]]:
        """Return whether the file is another than before, so that nothing read earlier counts, and new lines.

        Of a large file they are some of the new ones: there is nothing more to read when none come.

        A resume puts a new file in the place of the old one; where a file was cut or written over in place, its
        size or the bytes before where reading ended say so. A file that is gone, or no plain file, has no lines.
        """
        try:
            if not stat.S_ISREG(os.stat(self._path).st_mode):  # to open a pipe would wait for who writes into it
                return self._forget(), []
            with self._path.open("rb") as file:
                return self._read_on(file, os.fstat(file.fileno()))
        except OSError:
            return self._forget(), []

    def _read_on(self, file: Any, status: os.stat_result) -> tuple[bool, list[Line]]:
        anew = False
        if not self._is_same(file, status):
            anew = self._forget()
            self._inode = status.st_ino
        file.seek(self._end)
        block = file.read(_BLOCK)
        while b"\n" not in block and (more := file.read(_BLOCK)):
            block += more
        whole, newline, _ = block.rpartition(b"\n")
        if not newline:
            return anew, []
        lines, start = [], self._end
        for text in whole.split(b"\n"):
            lines.append(Line(start, text))
            start += len(text) + 1
        self._end = start
        self._mark = (self._mark + whole + newline)[-_MARK:]
        return anew, lines

    def _is_same(self, file: Any, status: os.stat_result) -> bool:
        if status.st_ino != self._inode or status.st_size < self._end:
            return False
        file.seek(self._end - len(self._mark))
        return file.read(len(self._mark)) == self._mark

    def read_all(self) -> Iterator[tuple[bool, list[Line]]]:
        """Yield what `read` returns until there is nothing more; at least once."""
        while True:
            anew, lines = self.read()
            yield anew, lines
            if not lines:
                return

    def _forget(self) -> bool:
        known = self._inode != 0
        self._inode, self._end, self._mark = 0, 0, b""
        return known


def object_of(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line holds, or None for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def last_object(path: Path) -> dict[str, Any] | None:
    """Return the object in the last whole line of a file, read from its end; None where there is none.

    Lines of more than 64 KiB are not looked for.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            whole, _, _ = file.read().rpartition(b"\n")
    except OSError:
        return None
    for line in reversed(whole.split(b"\n")):
        found = object_of(line)
        if found is not None:
            return found
    return None
