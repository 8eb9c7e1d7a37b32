"""Rows in memory on their way to the reader of rows, which takes files."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from penchant.data.atomic import disk_errors, write_text
from penchant.data.columns import kind_of
from penchant.errors import DataError, UsageError

Rows = Iterable[Any]  # mappings; a `datasets.Dataset` does not say so in its types
Data = str | Path | Rows
"""A file or folder of pairs; or rows, such as a `datasets.Dataset` or a list of dictionaries."""


def path_of(data: Data) -> Path | None:
    """Return the path of data that is named, None of rows that are given.

    Raises:
        UsageError: It is neither a path nor rows; a `DatasetDict` is several data sets.
    """
    if isinstance(data, str | Path):
        return Path(data)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise UsageError(
            f"data is a {type(data).__name__}, not a path, a data set or a list of rows",
            fix='Of several splits give one: data["train"].',
        )
    return None


def write_rows(rows: Data, file: Path, *, resume: bool = False) -> None:
    """Write rows as a file that the reader takes, a line of JSON each, in their order.

    Args:
        rows: The rows.
        file: Where to.
        resume: Whether a run goes on: the rows that lie there must then be the same.

    Raises:
        DataError: There is no row, or one is no mapping, or holds what is no JSON value; or other rows lie there.
        DiskError: There is no room or no permission; nothing is left behind.
    """
    lines = [_line(row, number) for number, row in enumerate(cast(Rows, rows), start=1)]
    if not lines:
        raise DataError("there are no rows")
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if resume and file.is_file():
            if file.read_text(encoding="utf-8") != "".join(lines):
                raise DataError("this run began with other rows than those that are given", where=str(file))
            return
    write_text(file, "".join(lines))


@contextlib.contextmanager
def as_file(data: Data) -> Iterator[Path]:
    """Give a path to data for a while: its own, or that of a file which is removed afterwards."""
    path = path_of(data)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="penchant-rows-") as folder:
        file = Path(folder) / "rows.jsonl"
        write_rows(data, file)
        yield file


def _line(row: Any, number: int) -> str:
    if not isinstance(row, Mapping):
        raise DataError(f"it is {kind_of(row)}, not a mapping from columns to values", where=f"row {number}")
    try:
        return json.dumps(dict(row), ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"a value of it is no JSON value ({error})", where=f"row {number}") from error
