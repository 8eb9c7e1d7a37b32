"""One run as its files tell it now, read on from where it was read last; for any thread."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from sys import intern
from threading import Lock
from typing import Any

from penchant.errors import PenchantError
from penchant.reporting.figures import finite_number
from penchant.strict_yaml import read_yaml
from penchant.web.line_tail import LineTail, object_of

Row = dict[str, Any]

_NUMBERS = count(1)
_LARGEST = 1 << 26  # bytes of a file that is read whole
_STEP_FIRST = re.compile(rb'\{"step": (\d{1,15})[,}]')  # as the engine writes it; saves parsing the pairs


class StepLines:
    """The lines of a log by step; of a step that a resumed run repeats, the later one counts.

    Attributes:
        unreadable: Whole lines that are no object with a step.
        version: Changes whenever the lines do.
    """

    def __init__(self, path: Path) -> None:
        self._tail = LineTail(path)
        self._by_step: dict[float, Row] = {}
        self._rows: list[Row] = []
        self._lock = Lock()
        self.unreadable, self.version = 0, 0

    def rows(self) -> list[Row]:
        """Return all lines so far in the order of their steps; not to be changed, and never changed later."""
        with self._lock:
            return self._read_on()

    def _read_on(self) -> list[Row]:
        changed = False
        for anew, lines in self._tail.read_all():
            if anew:
                self._by_step, self.unreadable = {}, 0
            for line in lines:
                self._take(line.text)
            changed = changed or anew or bool(lines)
        if changed:
            self.version += 1
            self._rows = [self._by_step[step] for step in sorted(self._by_step)]
        return self._rows

    def _take(self, text: bytes) -> None:
        row = object_of(text)
        step = finite_number(row.get("step")) if row else None
        if row is None or step is None:
            self.unreadable += bool(text.strip())
        else:
            self._by_step[step] = {intern(key): value for key, value in row.items()}


class PairLines:
    """Where in `pairs.jsonl` the line of each step begins; the lines themselves stay on the disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._tail = path, LineTail(path)
        self._starts: dict[int, tuple[int, int]] = {}
        self._lock = Lock()

    def line(self, step: int) -> Row | None:
        """Return the line of a step, or None where there is none that can be read."""
        with self._lock:
            self._look()
            if step not in self._starts:
                return None
            start, size = self._starts[step]
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return object_of(file.read(size))
        except OSError:
            return None

    def _look(self) -> None:
        for anew, lines in self._tail.read_all():
            if anew:
                self._starts = {}
            for line in lines:
                known = _STEP_FIRST.match(line.text)
                step = int(known[1]) if known else _step_of(line.text)
                if step is not None:
                    self._starts[step] = (line.start, len(line.text))


class RunFiles:
    """What the files of a run directory say.

    Attributes:
        name: Of the run, as pages show it.
        path: The directory.
        steps: Lines of `metrics.jsonl`.
        validations: Lines of `validation.jsonl`.
        generations: Lines of `generations.jsonl`.
        pairs: Lines of `pairs.jsonl`.
        number: Of this object in this process; no other has it.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.number = name, path, next(_NUMBERS)
        self._lock = Lock()
        self.steps = StepLines(path / "metrics.jsonl")
        self.validations = StepLines(path / "validation.jsonl")
        self.generations = StepLines(path / "generations.jsonl")
        self.pairs = PairLines(path / "pairs.jsonl")
        self._kept: dict[str, tuple[object, Any]] = {}

    def object(self, name: str) -> tuple[Row, str]:
        """Return the JSON object in a file, {} when it is not there, and what is wrong with it or ""."""
        return self._read(name, _object_in)

    def config(self) -> tuple[Row, str]:
        """Return `config.yaml`, {} when it is not there, and what is wrong with it or ""."""
        return self._read("config.yaml", _yaml_in)

    def text(self, name: str) -> str:
        """Return a file as text, what is not UTF-8 replaced; "" when it is not there."""
        found, _ = self._read(name, _text_in)
        return found

    def _read(self, name: str, read: Callable[[Path], Any]) -> tuple[Any, str]:
        path = self.path / name
        with self._lock:
            sign = sign_of(path)
            key = f"{name} {read.__name__}"
            if key not in self._kept or self._kept[key][0] != sign:
                self._kept[key] = (sign, _explained(read, path, sign, name))
            return self._kept[key][1]


def sign_of(path: Path) -> tuple[float, int, int] | None:
    """Return what changes when a plain file does: time, size, inode; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def mapping_of(source: Mapping[str, Any], key: str) -> Row:
    """Return the mapping under a key, {} for anything else."""
    found = source.get(key)
    return found if isinstance(found, dict) else {}


def _explained(
    read: Callable[[Path], Any], path: Path, sign: tuple[float, int, int] | None, name: str
) -> tuple[Any, str]:
    empty: Any = "" if read is _text_in else {}
    if sign is None:
        return empty, ""
    if sign[1] > _LARGEST:
        return empty, f"{name} is larger than {_LARGEST} bytes"
    try:
        return read(path), ""
    except PenchantError as error:
        return empty, f"{name}: {error.what}"
    except (OSError, ValueError, RecursionError) as error:
        return empty, f"{name} cannot be read ({type(error).__name__})"


def _object_in(path: Path) -> Row:
    found = object_of(path.read_bytes())
    if found is None:
        raise ValueError("no JSON object")
    return found


def _yaml_in(path: Path) -> Row:
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return found


def _text_in(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def _step_of(text: bytes) -> int | None:
    step = finite_number((object_of(text) or {}).get("step"))
    return None if step is None else int(step)
