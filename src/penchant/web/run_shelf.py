"""The runs that the pages show: found, opened, and let go of when too many are open."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from penchant.web.run_files import RunFiles
from penchant.web.run_folders import RunFolders
from penchant.web.run_state import RunState, state_of

_OPEN = 8  # runs whose steps are kept in memory


class RunShelf:
    """The runs below a folder by name; for any thread.

    Args:
        root: A folder of runs, or a run.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._folders = root, RunFolders(root)
        self._lock = Lock()
        self._files: dict[Path, RunFiles] = {}
        self._open: OrderedDict[Path, None] = OrderedDict()

    def states(self) -> tuple[list[RunState], bool]:
        """Return how every run is going, the newest first, and whether there were too many folders."""
        found = self._folders.found()
        with self._lock:
            self._files = {path: self._one(name, path) for name, path in found.runs.items()}
            files = list(self._files.values())
        states = [state_of(one, time.time()) for one in files]
        return sorted(
            states, key=lambda state: (-(state.began or state.written or 0.0), state.name)
        ), found.cut_off

    def named(self, words: str) -> tuple[RunFiles, str] | None:
        """Return the run whose name a path begins with, the longest such name, and the rest of the path.

        The rest is "" or begins with a slash. None where there is no such run.
        """
        runs = self._folders.found().runs
        end = len(words)
        while end > 0:
            name = words[:end]
            if name in runs:
                return self._opened(name, runs[name]), words[end:]
            end = name.rfind("/")
        return None

    def _one(self, name: str, path: Path) -> RunFiles:
        return self._files.get(path) or RunFiles(name, path)

    def _opened(self, name: str, path: Path) -> RunFiles:
        with self._lock:
            files = self._files[path] = self._one(name, path)
            self._open[path] = None
            self._open.move_to_end(path)
            while len(self._open) > _OPEN:
                closed, _ = self._open.popitem(last=False)
                self._files.pop(closed, None)  # whoever still reads it keeps it for as long
            return files
