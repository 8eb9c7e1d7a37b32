"""How a checkpoint gets to the disk and is found again, whatever it holds. No torch in here.

    checkpoints/.step-120.PID.NONCE.tmp/    being written; nobody reads it
                step-120/                   whole: it got its name after all its files were on the disk
                    ...                     the files
                    manifest.json           size and SHA-256 of each, written last
                damaged-step-100/           was not what had been written, so it was set aside

`begin`, then files by whoever has a part of them, then `seal`: `write_folder` is the three for a single writer.
Numbers in names order checkpoints; the times of files mean nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.data.atomic import disk_errors, flush, hidden_name, move_folder
from penchant.errors import DiskError, ModelError
from penchant.failpoints import failpoint

MANIFEST = "manifest.json"
_FORMAT = 1


def write_folder(target: Path, write: Callable[[Path], None], *, needed_bytes: int = 0) -> Path:
    """Write a folder that is there as a whole or not at all, read it back, and return it.

    Args:
        target: Where it is to be. One that is there already stays until the new one is in its place.
        write: Gets an empty folder and writes the files into it.
        needed_bytes: What they will take, at least.

    Raises:
        DiskError: There is no room or no permission, or what is read back is not what was written. What was there
            before is there still, and nothing unfinished is left.
    """
    with disk_errors(target):
        unfinished = begin(target, needed_bytes=needed_bytes)
        try:
            write(unfinished)
            seal(unfinished, target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target


def begin(target: Path, *, needed_bytes: int = 0) -> Path:
    """Make the hidden folder in which `target` is written, and return it.

    Raises:
        DiskError: There is too little room for the files; nothing was touched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    check_room(target, needed_bytes)
    unfinished = hidden_name(target, "tmp")
    unfinished.mkdir()
    failpoint("checkpoint.begun")
    return unfinished


def check_room(target: Path, needed_bytes: int) -> None:
    """Refuse to begin what will not fit.

    Raises:
        DiskError: There is less free than needed.
    """
    free = shutil.disk_usage(target.parent).free
    if free < needed_bytes:
        raise DiskError(
            f"{free / 1e9:.2f} GB free, and {needed_bytes / 1e9:.2f} GB are to be written",
            where=str(target),
            fix="Free some space; earlier checkpoints are untouched, and --resume goes on from the newest.",
        )


def seal(unfinished: Path, target: Path) -> None:
    """Make a checkpoint of a folder that all its writers are done with.

    Its files are flushed, the manifest is written and flushed after them, then the folder; it gets its name, the
    name is flushed, and everything is read back.

    Raises:
        OSError: It cannot be flushed or moved.
        DiskError: What is read back is not what was written.
    """
    files = sorted(path for path in unfinished.rglob("*") if path.is_file())
    for path in files:
        flush(path)
        failpoint("checkpoint.file_flushed")
    for folder in sorted(path for path in unfinished.rglob("*") if path.is_dir()):
        flush(folder)
    manifest = unfinished / MANIFEST
    manifest.write_text(json.dumps(_manifest(target.name, unfinished, files), indent=1), encoding="utf-8")
    failpoint("checkpoint.manifest_written")
    flush(manifest)
    failpoint("checkpoint.manifest_flushed")
    flush(unfinished)
    failpoint("checkpoint.folder_flushed")
    move_folder(unfinished, target)
    if damage := damage_of(target):
        raise DiskError(
            f"what was written cannot be read back: {damage}",
            where=str(target),
            fix="Look at the disk; earlier checkpoints are untouched.",
        )
    failpoint("checkpoint.verified")


def damage_of(path: Path, required: Set[str] = frozenset()) -> str:
    """Return what is wrong with a checkpoint, and with which file; "" when every file is what was written.

    Args:
        path: The checkpoint.
        required: Files without which it is none.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        listed: dict[str, dict[str, Any]] = manifest["files"]
        if manifest["format"] != _FORMAT:
            return f"{MANIFEST} is of format {manifest['format']}, and this version reads {_FORMAT}"
        if manifest["name"] != path.name:
            return f"it was written as {manifest['name']}"
        return next(_faults(path, listed, required), "")
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is torn"


def _faults(path: Path, listed: dict[str, dict[str, Any]], required: Set[str]) -> Iterator[str]:
    there = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if not file.is_dir()}
    yield from (f"{name} is missing" for name in sorted((required | listed.keys()) - there.keys()))
    for name in sorted(there.keys() - listed.keys() - {MANIFEST}):
        yield f"{name} is not in the manifest"
    for name, facts in listed.items():
        size = there[name].stat().st_size
        if size != facts["bytes"]:
            yield f"{name} has {size} bytes, not {facts['bytes']}"
        elif sha256_of(there[name]) != facts["sha256"]:
            yield f"{name} has another SHA-256"


def _manifest(name: str, folder: Path, files: Iterable[Path]) -> dict[str, Any]:
    facts = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in files
    }
    return {"format": _FORMAT, "name": name, "files": facts}


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Found:
    """What a look for the newest checkpoint came to.

    Attributes:
        path: The newest one that is whole; None when there was none at all.
        damaged: Those that are newer and not whole, newest first, each with what is wrong with it.
    """

    path: Path | None
    damaged: tuple[tuple[Path, str], ...] = ()

    @property
    def step(self) -> int:
        """Optimizer steps done; 0 without a checkpoint."""
        return 0 if self.path is None else int(self.path.name.removeprefix("step-"))

    def warnings(self) -> list[str]:
        """Return one line about each checkpoint that was passed over."""
        back = f"stepping back to {self.path.name}" if self.path else "nothing to step back to"
        return [f"{path.name} is damaged ({why}); {back}" for path, why in self.damaged]


def find_newest(folder: Path, required: Set[str] = frozenset()) -> Found:
    """Return the newest checkpoint that is whole. Nothing is changed, so anybody may look.

    Args:
        folder: The run's `checkpoints`.
        required: See `damage_of`.

    Raises:
        ModelError: There are checkpoints, also such as were set aside, and every one is damaged. To begin anew
            without a word would throw the run away.
    """
    damaged: list[tuple[Path, str]] = []
    for step in sorted(steps_in(folder), reverse=True):
        path = folder / f"step-{step}"
        why = damage_of(path, required)
        if not why:
            return Found(path, tuple(damaged))
        damaged.append((path, why))
    aside = [(path, "set aside before") for path in sorted(folder.glob("damaged-step-*"))]
    if damaged or aside:
        names = ", ".join(path.name for path, _ in [*damaged, *aside])
        reasons = "".join(f"\n    {path.name}: {why}" for path, why in [*damaged, *aside])
        raise ModelError(
            f"every checkpoint is damaged ({names}){reasons}",
            where=str(folder),
            fix="Start the run anew with another --out, or put back a copy of a checkpoint.",
        )
    return Found(None)


def set_aside(found: Found) -> None:
    """Rename what is damaged to `damaged-NAME`, so that nothing takes it for a checkpoint again.

    Raises:
        DiskError: It cannot be renamed.
    """
    for path, _ in found.damaged:
        with disk_errors(path):
            target, number = path.with_name(f"damaged-{path.name}"), 1
            while target.exists():
                number += 1
                target = path.with_name(f"damaged-{path.name}-{number}")
            os.replace(path, target)
            flush(path.parent)


def drop_others(folder: Path, wanted: Set[int], kind: str = "step") -> None:
    """Remove the folders `KIND-N` whose numbers nobody wants; one that cannot be removed stays, the others go."""
    for number in sorted(set(steps_in(folder, kind)) - wanted):
        path = folder / f"{kind}-{number}"
        doomed = hidden_name(path, "tmp")
        with contextlib.suppress(OSError):
            failpoint("retention.before_delete")
            os.replace(path, doomed)  # in one step, so that no kill leaves half a checkpoint under its name
            failpoint("retention.hidden")
            shutil.rmtree(doomed)
            failpoint("retention.deleted")


def steps_in(folder: Path, kind: str = "step") -> list[int]:
    """Return the numbers N of the folders `KIND-N`, in no order."""
    names = [path.name.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*")]
    return [int(name) for name in names if name.isdecimal() and name == str(int(name))]
