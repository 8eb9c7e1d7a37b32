"""`log_history` of a finished run, from what lies in its directory: also of the steps before a resume."""

from __future__ import annotations

import math
from pathlib import Path

from penchant.integrations.trl.step_log import StepLog, validation_line
from penchant.workflow.watch import read_lines


def history(run: Path, log: StepLog) -> tuple[list[dict[str, float]], float]:
    """Return the log lines in their order, and the mean loss of all steps; `log` keeps what no line has told.

    Args:
        run: The run directory.
        log: A fresh one.
    """
    lines = read_lines(run / "metrics.jsonl")
    pairs = {line["step"]: line for line in read_lines(run / "pairs.jsonl")}
    validations = {line["step"]: line for line in read_lines(run / "validation.jsonl")}
    found: list[dict[str, float]] = []
    for line in lines:
        entry = log.add(line, pairs[line["step"]])
        if entry is not None:
            found.append(entry)
        if line["step"] in validations:
            found.append(validation_line(validations[line["step"]], log.course, means=log.means))
    return found, math.fsum(line["loss"] for line in lines) / len(lines)
