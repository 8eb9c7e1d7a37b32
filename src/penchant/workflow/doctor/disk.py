"""Room, and whether a file gets there whole: written, flushed, renamed and read back, as a checkpoint is."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from penchant.data.atomic import flush_folder, move_folder
from penchant.errors import PenchantError
from penchant.models.bundled import cache_directory
from penchant.workflow.doctor.finding import Finding
from penchant.workflow.run_lock import run_lock

LITTLE_DISK_BYTES, NO_DISK_BYTES = 10 * 2**30, 2**30
TRIED_BYTES = 32 * 2**20
SLOW_BYTES = 20 * 10**6  # a second; a checkpoint of the bundled model then takes half a minute
_GROUP = "disk"


def disk() -> Iterator[Finding]:
    """Yield room in the three places that Penchant writes to, and a trial save where runs go."""
    runs = Path.cwd() / "runs" if (Path.cwd() / "runs").is_dir() else Path.cwd()
    yield disk_finding("runs", runs, "here")
    yield save_finding(runs, TRIED_BYTES)
    yield disk_finding("cache", cache_directory(), "PENCHANT_CACHE")
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    yield disk_finding("Hub cache", hub, "HF_HOME")


def disk_finding(name: str, folder: Path, setting: str) -> Finding:
    """Return whether a folder, or the nearest above it that exists, can be written to and has room.

    Args:
        name: What lies there.
        folder: Where; it need not exist.
        setting: What moves it elsewhere.
    """
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))
    remedy = "cd to a folder with room" if setting == "here" else f"export {setting}=A_FOLDER_WITH_ROOM"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(_GROUP, name, "error", f"{folder}: cannot be written ({error.strerror})", remedy)
    what = f"{folder}: {free / 2**30:.1f} GiB free"
    if free < LITTLE_DISK_BYTES:
        return Finding(_GROUP, name, "error" if free < NO_DISK_BYTES else "warning", what, remedy)
    return Finding(_GROUP, name, "ok", what)


def save_finding(folder: Path, size: int) -> Finding:
    """Return how a trial save went in a folder: a lock, `size` bytes in a file, its name, the same bytes back."""
    remedy = "cd to a local disk, or give --out a folder on one"
    content = os.urandom(1 << 20) * (size >> 20)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".penchant-doctor-") as trial:
            unfinished, target = Path(trial) / "unfinished", Path(trial) / "checkpoint"
            unfinished.mkdir()
            with run_lock(Path(trial)):
                began = time.perf_counter()
                (unfinished / "weights").write_bytes(content)
                flush_folder(unfinished)
                move_folder(unfinished, target)
                seconds = time.perf_counter() - began
                same = (target / "weights").read_bytes() == content
    except (OSError, PenchantError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.what  # type: ignore[union-attr] # the other
        return Finding(_GROUP, "trial save", "error", f"{folder}: a save failed ({reason})", remedy)
    if not same:
        what = f"{folder}: what was read back is not what was written"
        return Finding(_GROUP, "trial save", "error", what, remedy)
    rate = size / seconds
    what = f"locked, written, flushed, renamed and read back: {size >> 20} MiB, {rate / 1e6:,.0f} MB/s"
    return Finding(
        _GROUP, "trial save", "ok" if rate >= SLOW_BYTES else "warning", what, "" if rate >= SLOW_BYTES else remedy
    )
