"""One timed run of Penchant in a process of its own: prints one JSON object.

python -m bench.ours WORK_AS_JSON
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from bench.work import Work, peak_bytes

from penchant.workflow.reporter import Advance, Reporter
from penchant.workflow.train import train_run


class Clock(Reporter):
    """Times the training stage: from where the first long part after tokenising begins to where the last ends."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.ended = 0.0

    def note(self, text: str) -> None:
        """Pass a line on to a person who looks on."""
        print(text, file=sys.stderr)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Note when a long part begins and ends."""
        if self.started is None and what != "Tokenizing":
            self.started = time.perf_counter()
        with super().progress(what, total) as advance:
            yield advance
        self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of the stage."""
        return self.ended - (self.started or self.ended)


def run(work: Work) -> dict[str, Any]:
    """Train once; return what it took and came to.

    `train_seconds` counts everything in the training stage, the reference's scores included; `step_seconds` are
    the optimizer steps alone.
    """
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        started = time.perf_counter()
        result = train_run(work.config(), Path(work.rows), out, reporter=clock)
        whole = time.perf_counter() - started
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        facts = json.loads((out / "eval" / "training.json").read_text())
        data = yaml.safe_load((out / "config.yaml").read_text())["run"]["data_fingerprint"]
    return {
        "step_seconds": [line["seconds"] for line in lines],
        "losses": [line["loss"] for line in lines],
        "reference_seconds": result.reference_seconds,
        "train_seconds": max(result.train_seconds, clock.seconds),
        "whole_seconds": whole,
        "packed_tokens": sum(line["tokens"] for line in lines),
        "trained_parameters": facts["trained_parameters"],
        "data": data,
        "peak_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(run(Work.from_json(sys.argv[1]))))
