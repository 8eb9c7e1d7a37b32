"""The metrics file of a run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from penchant.errors import DiskError
from penchant.training.telemetry import MetricsLog, flush_logs, peak_memory_bytes, reset_peak_memory


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_a_step(tmp_path: Path) -> None:
    """Each is complete JSON on a line of its own, numbers exact."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        log.append({"step": step, "loss": 0.1 + step})
    assert steps(log.path) == [1, 2]
    assert json.loads(log.path.read_text(encoding="utf-8").splitlines()[1])["loss"] == 2.1


def test_a_resume_drops_what_it_repeats_and_what_is_torn(tmp_path: Path) -> None:
    """Lines after the checkpoint, a torn last line and foreign lines go; the others stay as they were."""
    path = tmp_path / "metrics.jsonl"
    kept = '{"step": 1, "x": 1}\n{"step": 2}\n'
    path.write_text(kept + '[]\n"a"\n{"step": 3}\n{"step": 4, "lo', encoding="utf-8")
    MetricsLog(path, keep_steps=2)
    assert path.read_text(encoding="utf-8") == kept


def test_a_fresh_run_starts_empty(tmp_path: Path) -> None:
    """Lines of a run that left no checkpoint do not survive beside the new ones."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n', encoding="utf-8")
    MetricsLog(path).append({"step": 1})
    assert steps(path) == [1]


def test_a_file_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    """With the place named."""
    with pytest.raises(DiskError, match=r"metrics\.jsonl"):
        MetricsLog(tmp_path / "missing" / "metrics.jsonl")
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.unlink()
    with pytest.raises(DiskError):
        log.append({"step": 1})


def test_a_line_that_the_disk_takes_only_a_part_of_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system writes what fits and says how much: no torn line stays in the middle of the file."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        with pytest.raises(DiskError, match="space"):
            log.append({"step": 2})
    log.append({"step": 2})
    assert steps(log.path) == [1, 2]


def test_a_failure_while_a_resume_drops_lines_costs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is written beside the old file, which is there until the new one is whole."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n', encoding="utf-8")
    monkeypatch.setenv("PENCHANT_TEST", "1")
    monkeypatch.setenv("PENCHANT_FAILPOINTS", "text.flushed=enospc")
    with pytest.raises(DiskError):
        MetricsLog(path, keep_steps=1)
    assert steps(path) == [1, 2]


def test_all_logs_of_a_run_are_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lines, and that they are there at all."""
    for name in ("metrics.jsonl", "pairs.jsonl"):
        MetricsLog(tmp_path / name).append({"step": 1})
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    flush_logs(tmp_path)
    assert flushed == [str(tmp_path / "metrics.jsonl"), str(tmp_path / "pairs.jsonl"), str(tmp_path)]


def test_memory_is_counted_in_bytes() -> None:
    """This process holds more than a megabyte and less than a terabyte."""
    assert 1e6 < peak_memory_bytes() < 1e12


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_the_peak_begins_anew_when_asked_to() -> None:
    before = peak_memory_bytes()
    large = np.ones(before // 8 + (64 << 20) // 8)  # more than ever was here
    high = peak_memory_bytes()
    del large
    assert high > before
    assert peak_memory_bytes() == high
    reset_peak_memory()
    assert peak_memory_bytes() < high
