"""Indexes in the making: one thread a source, and what its page says meanwhile."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from penchant.data.atomic import tidy
from penchant.errors import PenchantError
from penchant.web.data_index import build_index, index_folder, index_path, opened
from penchant.web.data_sources import DataSource

_QUICKLY = 0.25  # seconds; a small file is there before a page about waiting would be


class NotReadyError(Exception):
    """The index is being made.

    Args:
        doing: What is being done now.
        rows: How many rows are through.
        seconds: Since it began.
    """

    def __init__(self, doing: str, rows: int, seconds: float) -> None:
        super().__init__(doing)
        self.doing, self.rows, self.seconds = doing, rows, seconds


@dataclass
class _Build:
    thread: threading.Thread
    began: float
    doing: str = "Opening"
    rows: int = 0
    error: Exception | None = None


@cache
def _tidy_once(folder: Path) -> None:
    """Remove what killed processes left; later it would also be what this one is making."""
    if folder.is_dir():
        tidy(folder)


class Builds:
    """Opens indexes; what is not there, or damaged, is made in the background."""

    def __init__(self) -> None:
        self._builds: dict[Path, _Build] = {}
        self._lock = threading.Lock()
        _tidy_once(index_folder())

    @contextlib.contextmanager
    def open(self, source: DataSource) -> Iterator[sqlite3.Connection]:
        """Give a connection that reads the index of a source as its files are now.

        Raises:
            NotReadyError: It is being made, or was damaged and is now made again.
            PenchantError: It cannot be made.
        """
        path = index_path(source)
        self._wait(source, path)
        try:
            with opened(path) as connection:
                yield connection
        except sqlite3.DatabaseError:
            with contextlib.suppress(OSError):
                path.unlink()
            self._wait(source, path)
            raise NotReadyError("Opening", 0, 0.0) from None

    def ready(self, source: DataSource) -> bool:
        """Whether the index is there."""
        return index_path(source).is_file()

    def _wait(self, source: DataSource, path: Path) -> None:
        """Return when the index is there."""
        with self._lock:
            if path.is_file():
                return
            build = self._builds.get(path)
            if build is None:
                build = self._builds[path] = _Build(threading.Thread(), time.monotonic())
                build.thread = threading.Thread(target=self._make, args=(source, path, build), daemon=True)
                build.thread.start()
        build.thread.join(max(0.0, build.began + _QUICKLY - time.monotonic()))
        if build.thread.is_alive():
            raise NotReadyError(build.doing, build.rows, time.monotonic() - build.began)
        with self._lock:
            self._builds.pop(path, None)  # whoever asks again begins anew
        if build.error is not None:
            raise build.error

    def _make(self, source: DataSource, path: Path, build: _Build) -> None:
        def progress(doing: str, rows: int) -> None:
            build.doing, build.rows = doing, rows

        try:
            build_index(source, path, progress)
        except PenchantError as error:
            build.error = error
        except Exception as error:  # a defect is told where somebody looks: on the page
            build.error = error
