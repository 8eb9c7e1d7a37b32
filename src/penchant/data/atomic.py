"""Files and folders that are either whole or not there, also after a loss of power.

What is written gets to the disk before its name says that it is there, and the name gets there before anything is
built on it: fsync of the file, rename, fsync of the folder that holds the name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from penchant.errors import DiskError
from penchant.failpoints import failpoint

_HIDDEN = re.compile(r"\.(?P<target>.+)\.(?P<owner>\d+)\.[0-9a-f]{8}\.(?P<kind>tmp|old)")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing to `path` into a DiskError with a remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in its own words
        raise DiskError(
            f"cannot write ({getattr(error, 'strerror', None) or error})",
            where=str(path),
            fix="Free some space, or choose another folder that you may write to.",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, flush it to disk, and move it into place.

    Raises:
        DiskError: There is no room or no permission; nothing is left behind.
    """
    with disk_errors(path):
        unfinished = hidden_name(path, "tmp")
        try:
            with unfinished.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            failpoint("text.flushed")
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        failpoint("text.renamed")
        flush(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON. See `write_text`."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def flush(path: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Bring a folder's files and the folder itself to the disk, before a name says that they are whole."""
    for path in [*sorted(folder.rglob("*")), folder]:
        flush(path)


def move_folder(unfinished: Path, target: Path) -> None:
    """Give a folder that was flushed its name, and bring that to the disk; both lie in the same folder.

    A folder that has the name already is moved aside first and removed when the new one is in place. After a kill
    between the two moves `tidy` gives it its name back.

    Raises:
        OSError: It cannot be moved; what was there is there again.
    """
    aside = None
    if target.exists():
        aside = hidden_name(target, "old")
        os.replace(target, aside)
        failpoint("folder.old_aside")
    try:
        os.replace(unfinished, target)
    except BaseException:
        if aside is not None:
            os.replace(aside, target)
        raise
    failpoint("folder.renamed")
    flush(target.parent)
    failpoint("folder.name_flushed")
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def hidden_name(target: Path, kind: str) -> Path:
    """Return a new hidden name beside `target` that tells which process it belongs to: .NAME.PID.NONCE.KIND."""
    return target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.{kind}")


def tidy(folder: Path) -> None:
    """Remove what dead writers left unfinished; what one of them had only moved aside gets its name back.

    What belongs to a process that is alive is left alone, unless it is this one, which has none yet at its start.

    Raises:
        DiskError: Something cannot be moved back or removed.
    """
    for path in sorted(folder.glob(".*")):
        match = _HIDDEN.fullmatch(path.name)
        if match is None or _alive(int(match["owner"])):
            continue
        target = folder / match["target"]
        with disk_errors(path):
            if match["kind"] == "old" and not target.exists():
                os.replace(path, target)
                flush(folder)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if process == os.getpid():
        return False  # the number of a dead process, given again
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    return True
