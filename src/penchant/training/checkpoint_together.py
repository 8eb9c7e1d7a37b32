"""A checkpoint that several processes write: all their files, sealed by the first when all are there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from penchant.data.atomic import disk_errors
from penchant.errors import DiskError
from penchant.processes import done_by_first, is_first, told_by_all
from penchant.training.checkpoint_folder import begin, seal


def write_folder_together(
    target: Path, write: Callable[[Path], None], write_own: Callable[[Path], None], needed_bytes: int
) -> Path:
    """Do what `write_folder` does, with files from every process; all of them call this.

    Args:
        target: See `write_folder`; on a disk that all processes see.
        write: What the first process writes alone.
        write_own: What each process writes of its own, under names of its own.
        needed_bytes: What all files take together.

    Raises:
        DiskError: As in `write_folder`, and everywhere at once.
    """

    def begun() -> Path:
        with disk_errors(target):
            unfinished = begin(target, needed_bytes=needed_bytes)
            write(unfinished)
        return unfinished

    unfinished = done_by_first(begun)
    try:
        failed = ""
        try:
            write_own(unfinished)
        except Exception as error:  # torch tells what went wrong elsewhere in an exception of its own
            failed = f"{type(error).__name__}: {error}"
        reasons = [reason for reason in told_by_all(failed) if reason]
        if reasons:
            raise DiskError(
                f"a process cannot write its part ({reasons[0][:300]})",
                where=str(target),
                fix="Free some space; earlier checkpoints are untouched.",
            )

        def sealed() -> None:
            with disk_errors(target):
                seal(unfinished, target)

        done_by_first(sealed)
    finally:
        if is_first():
            shutil.rmtree(unfinished, ignore_errors=True)
    return target
