"""Reading preference files into raw rows: strict about the file, silent about what the rows mean.

Formats: `.jsonl` and `.jsonl.gz` (one object a line), `.json` (one array of objects).

A folder stands for one file in it. With a split, that is the file called after it (`train` picks
`train.jsonl`, `train.jsonl.gz` or `train.json`); without one, the folder must hold a single data file.
Anything else is an error that lists the choice: a file is never picked by a guess.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

from penchant.errors import DataError, UsageError, did_you_mean

SUFFIXES = (".jsonl", ".jsonl.gz", ".json")
MAX_BROKEN_SHOWN = 10

_BOM = b"\xef\xbb\xbf"
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class RawRow:
    """One row as it stood in its file.

    Attributes:
        source: The file, as a path.
        line: 1-based line of the file; for a `.json` array, 1-based position in the array.
        values: The row's columns.
    """

    source: str
    line: int
    values: dict[str, object]

    @property
    def place(self) -> str:
        """Return `file:line`, as errors name it."""
        return f"{self.source}:{self.line}"

    @property
    def stem(self) -> str:
        """Return the file's name without folder and format suffix."""
        return _stem(Path(self.source).name)


class _BrokenError(Exception):
    """A stretch of a file that is no row. The reason never repeats the content."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def read_rows(path: Path, *, split: str | None = None, limit: int | None = None) -> list[RawRow]:
    """Read the rows of a preference file, or of the one file that a folder and a split stand for.

    Args:
        path: A file, or a folder (the module's docstring has the rule).
        split: Name of the file wanted from a folder, without its suffix.
        limit: Read this many rows from the start; the lines after them are not parsed.

    Raises:
        DataError: The file is missing, unreadable, empty or of an unknown format, or a row is broken;
            every broken line is named, up to ten.
        UsageError: A split beside a file, or a limit below one.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} rows reads nothing", fix="Give a limit of at least 1.")
    try:
        file = _find_file(path, split)
        raw = _read_bytes(file).removeprefix(_BOM)
    except OSError as err:
        raise DataError(f"cannot be read: {err.strerror or err}", where=path.as_posix()) from err
    records = _array_records(file, raw) if _suffix(file.name) == ".json" else _line_records(raw)
    # A file name need not be UTF-8, but the ledger that will hold it is.
    source = os.fsencode(file.as_posix()).decode("utf-8", "replace")
    rows = _checked_rows(source, islice(records, limit))
    if not rows:
        raise DataError("the file holds no rows", where=source)
    return rows


def _suffix(name: str) -> str:
    """Return the format suffix that ends `name`, as it is written there, or ''."""
    known = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[len(name) - len(known) :]


def _stem(name: str) -> str:
    return name.removesuffix(_suffix(name))


def _find_file(path: Path, split: str | None) -> Path:
    if path.is_dir():
        return _pick_from_folder(path, split)
    if not path.exists():
        raise _missing(path)
    if split is not None:
        raise UsageError(
            f'the split "{split}" picks a file from a folder, and this is a file',
            where=path.as_posix(),
            fix="Give the folder, or leave the split out.",
        )
    if not _suffix(path.name):
        raise DataError("unknown format", where=path.as_posix(), fix=f"Files can end in {', '.join(SUFFIXES)}.")
    return path


def _missing(path: Path) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        return DataError("no such file; its folder does not exist either", where=path.as_posix())
    names = [entry.name for entry in _data_files(folder)]
    names += [entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry)]
    return DataError(f"no such file or folder.{did_you_mean(path.name, names)}", where=path.as_posix())


def _data_files(folder: Path) -> list[Path]:
    found = (entry for entry in folder.iterdir() if entry.is_file() and _suffix(entry.name))
    return sorted(entry for entry in found if not _is_hidden(entry))


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".")


def _pick_from_folder(folder: Path, split: str | None) -> Path:
    files = _data_files(folder)
    if not files:
        raise DataError(
            "the folder holds no data file",
            where=folder.as_posix(),
            fix=f"Files can end in {', '.join(SUFFIXES)}.",
        )
    if split is not None:
        splits = {_stem(file.name) for file in files}
        if split not in splits:
            raise DataError(
                f'no data file for the split "{split}".{did_you_mean(split, splits)}', where=folder.as_posix()
            )
        files = [file for file in files if _stem(file.name) == split]
    if len(files) > 1:
        raise DataError(
            f"several data files: {', '.join(file.name for file in files)}",
            where=folder.as_posix(),
            fix="Name the file itself, or choose one by a split.",
        )
    return files[0]


def _read_bytes(file: Path) -> bytes:
    raw = file.read_bytes()
    if not file.name.lower().endswith(".gz"):
        return raw
    try:
        return gzip.decompress(raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as err:
        raise DataError("not a whole gzip file", where=file.as_posix()) from err


def _line_records(raw: bytes) -> Iterator[tuple[int, object]]:
    """Yield (line, parsed value or what broke it), skipping blank lines.

    Lines end at a line feed only: JSON strings may hold every other separator that `splitlines` knows.
    """
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            try:
                yield number, _parse(line)
            except _BrokenError as broken:
                yield number, broken


def _array_records(file: Path, raw: bytes) -> Iterator[tuple[int, object]]:
    if not raw.strip():
        return iter(())
    try:
        value = _parse(raw)
    except _BrokenError as broken:
        raise DataError(broken.reason, where=f"{file.as_posix()}:{broken.line}") from broken
    if not isinstance(value, list):
        raise DataError(
            "the file is not an array of objects",
            where=file.as_posix(),
            fix="A file with one object a line ends in .jsonl.",
        )
    return iter(enumerate(value, start=1))


def _parse(raw: bytes) -> object:
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        if _SURROGATE_ESCAPE.search(raw):
            # An escaped half character parses, but could be neither hashed nor written later on.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        column = err.start - raw.rfind(b"\n", 0, err.start)
        raise _BrokenError(f"not UTF-8 at byte {column} of the line", line) from err
    except UnicodeEncodeError as err:
        raise _BrokenError("half of a surrogate pair in a string") from err
    except json.JSONDecodeError as err:
        problem = err.msg.removesuffix(" at")
        raise _BrokenError(f"not JSON: {problem} at column {err.colno}", err.lineno) from err
    except RecursionError as err:
        raise _BrokenError("nested too deeply") from err
    except ValueError as err:
        raise _BrokenError(str(err)) from err
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _checked_rows(source: str, records: Iterable[tuple[int, object]]) -> list[RawRow]:
    rows: list[RawRow] = []
    broken: list[str] = []
    for line, value in records:
        if isinstance(value, dict):
            rows.append(RawRow(source, line, value))
        else:
            reason = value.reason if isinstance(value, _BrokenError) else "not a JSON object"
            broken.append(f"{source}:{line}: {reason}")
    if broken:
        raise DataError(_list_broken(broken), where=source)
    return rows


def _list_broken(broken: list[str]) -> str:
    noun = "row is" if len(broken) == 1 else "rows are"
    lines = [f"{len(broken)} {noun} broken", *broken[:MAX_BROKEN_SHOWN]]
    if len(broken) > MAX_BROKEN_SHOWN:
        lines.append(f"and {len(broken) - MAX_BROKEN_SHOWN} more")
    return "\n  ".join(lines)
