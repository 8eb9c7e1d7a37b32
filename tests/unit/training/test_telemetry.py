"""The metrics file of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penchant.errors import DiskError
from penchant.training.telemetry import MetricsLog, peak_memory_bytes


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


def test_memory_is_counted_in_bytes() -> None:
    """This process holds more than a megabyte and less than a terabyte."""
    assert 1e6 < peak_memory_bytes() < 1e12
