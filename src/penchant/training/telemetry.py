"""What a run writes about itself while it runs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from penchant.data.atomic import disk_errors, flush, write_text
from penchant.failpoints import failpoint
from penchant.processes import is_first


class MetricsLog:
    """`metrics.jsonl`: a line a step, append only. Of several processes the first one writes it.

    Args:
        path: The file.
        keep_steps: Lines after this step are dropped first: they belong to steps that a resume repeats.

    Raises:
        DiskError: There is no room or no permission; the file is as it was.
    """

    def __init__(self, path: Path, *, keep_steps: int = 0) -> None:
        self.path = path
        if not is_first():
            return
        with disk_errors(path):
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) is not None and _step(line) <= keep_steps]  # type: ignore[operator]
        write_text(path, "".join(f"{line}\n" for line in kept))  # as a whole: a kill must not cost what is kept

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line in one write, so that a kill leaves at most a torn last line.

        Raises:
            DiskError: There is no room or no permission; no part of the line is there.
        """
        if not is_first():
            return
        data = (json.dumps(line) + "\n").encode()
        failpoint("log.before_append")
        with disk_errors(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                _write_whole(descriptor, data)
            finally:
                os.close(descriptor)
        failpoint("log.after_append")


def _write_whole(descriptor: int, data: bytes) -> None:
    """Write all of the data; on a disk that takes only a part of it, none."""
    size = os.fstat(descriptor).st_size
    if os.write(descriptor, data) < len(data):
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def flush_logs(run: Path) -> None:
    """Bring the lines of all logs of a run to the disk, before a checkpoint counts on them.

    Raises:
        DiskError: The operating system cannot.
    """
    with disk_errors(run):
        for path in sorted(run.glob("*.jsonl")):
            flush(path)
            failpoint("log.flushed")
        flush(run)


def _step(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def peak_memory_bytes(device: str = "cpu") -> int:
    """Return the most memory used so far: of the accelerator where there is one, else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory(device: str = "cpu") -> None:
    """Let `peak_memory_bytes` begin anew, where the system allows it; else it goes on to tell of all there was."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
