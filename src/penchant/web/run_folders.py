"""Which runs lie below a folder: those of `penchant train`, stages, sweeps and online rounds, at any depth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic

MOST_FOLDERS = 20_000  # looked into for one list
DEEPEST = 6  # folders below the one that was named
_FRESH_SECONDS = 2.0
_MARKS = frozenset({"status.json", "metrics.jsonl"})
# of a run, and large: no run lies in these
_PASSED_OVER = frozenset(
    {"checkpoints", "model", "adapter", "eval", "samples", "reference", "tracking", "node_modules", "__pycache__"}
)


@dataclass(frozen=True)
class Found:
    """The runs below a folder.

    Attributes:
        runs: Directory by name. A name is the way there from the folder, with slashes; when the folder is a run
            itself, its own name comes first. What is not UTF-8 in it is replaced.
        cut_off: Whether there were more folders than are looked into.
    """

    runs: Mapping[str, Path]
    cut_off: bool = False


class RunFolders:
    """The runs below a folder, looked for anew when the last list is two seconds old; for any thread.

    Names come from this list alone, so that no address of a page can name another file.

    Args:
        root: A folder of runs, or a run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock, self._found, self._looked = Lock(), Found({}), -_FRESH_SECONDS

    def found(self) -> Found:
        """Return the runs that are there now."""
        with self._lock:
            if monotonic() - self._looked >= _FRESH_SECONDS:
                self._found = find_runs(self.root)
                self._looked = monotonic()
            return self._found


def find_runs(root: Path) -> Found:
    """Look for runs: folders with `status.json` or `metrics.jsonl`.

    Links to folders are not followed, hidden folders and those inside of a run that hold no runs are passed over.
    """
    top = root.resolve()
    base = top.parent if _is_run(set(_names(top))) else top
    runs: dict[str, Path] = {}
    looked = 0
    for place, folders, files in os.walk(top):
        path = Path(place)
        looked += 1
        if _is_run(set(files)):
            runs[_shown(path.relative_to(base))] = path
        deep = len(path.relative_to(top).parts) >= DEEPEST
        folders[:] = [] if deep else sorted(name for name in folders if not _is_passed_over(name))
        if looked >= MOST_FOLDERS:
            return Found(runs, cut_off=True)
    return Found(runs)


def _is_run(names: set[str]) -> bool:
    return bool(names & _MARKS)


def _is_passed_over(name: str) -> bool:
    return name in _PASSED_OVER or name.startswith(".")


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # os.walk finds nothing there either


def _shown(path: Path) -> str:
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")
