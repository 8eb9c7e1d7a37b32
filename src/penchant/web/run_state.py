"""How a run is going, in a few figures, from the times and the last lines of its files.

Nobody is asked whether a process lives: it may run on another machine that shares the disk. A run that says
"running" and writes nothing for too long is called silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from penchant.evaluation.verdict_figures import main_figure
from penchant.reporting.figures import finite_number
from penchant.web.line_tail import last_object
from penchant.web.run_files import Row, RunFiles, sign_of

RUNNING, STOPPED, FINISHED, FAILED = "running", "stopped", "finished", "failed"
SILENT, DAMAGED, UNKNOWN = "silent", "damaged", "unknown"
_STATES = frozenset({RUNNING, STOPPED, FINISHED, FAILED})

_PATIENCE = 10  # times what a step with all that may follow it takes
_LEAST_PATIENCE = 120.0  # seconds
_PATIENCE_BETWEEN = 1800.0  # seconds, where a run loads, tokenizes or scores, and writes no lines
_LATELY = 20  # steps
_WRITTEN = ("metrics.jsonl", "pairs.jsonl", "validation.jsonl", "generations.jsonl", "status.json")


@dataclass(frozen=True)
class RunState:
    """How a run is going.

    Attributes:
        name: As pages show it.
        state: running, silent, stopped, finished, failed, damaged (its files cannot be read) or unknown (it has no
            status, as of another program).
        phase: What it does, or did last, in the run's own words.
        step: The last step that a line tells of; None before the first.
        total: How many there are to be; None where it is not known.
        written: When a file was last written, seconds since 1970; None where there is none.
        began: Likewise when the run was begun, by its configuration.
        last: The last line of `metrics.jsonl`.
        verdict: What the evaluation came to in a sentence; "" without one.
        worked: Whether that is good news; None where there is no verdict.
        findings: How many the monitors had at its end; None before.
        reason: Why it ended, in its own words; "" where there is nothing to say.
        problems: What cannot be read.
    """

    name: str
    state: str
    phase: str = ""
    step: int | None = None
    total: int | None = None
    written: float | None = None
    began: float | None = None
    last: Mapping[str, Any] | None = None
    verdict: str = ""
    worked: bool | None = None
    findings: int | None = None
    reason: str = ""
    problems: tuple[str, ...] = ()


def state_of(files: RunFiles, now: float) -> RunState:
    """Return how a run is going.

    Args:
        files: Of the run; only small ones and the ends of large ones are read.
        now: Seconds since 1970.
    """
    status, wrong_status = files.object("status.json")
    training, wrong_training = files.object("eval/training.json")
    summary, wrong_summary = files.object("eval/summary.json")
    _, wrong_config = files.config()
    last = last_object(files.path / "metrics.jsonl")
    written = _latest(files)
    verdict, worked = main_figure(summary)
    found = training.get("findings")
    return RunState(
        files.name,
        _state(files, status, wrong_status, last, written, now),
        phase=str(status.get("phase") or ""),
        step=_whole((last or {}).get("step")),
        total=_whole(status.get("total_steps")) or _whole(training.get("steps")),
        written=written,
        began=_time(files, "config.yaml"),
        last=last,
        verdict=verdict,
        worked=worked,
        findings=len(found) if isinstance(found, list) else None,
        reason=str(status.get("reason") or ""),
        problems=tuple(filter(None, (wrong_status, wrong_config, wrong_training, wrong_summary))),
    )


def patience(files: RunFiles, last: Mapping[str, Any] | None, phase: str) -> float:
    """Return for how many seconds a running run may write nothing before it is called silent.

    In the phase "training" ten times what the last step, the last validation and the last round of answers took
    together, at least two minutes; in the other phases, which write no lines, half an hour.
    """
    if phase != "training" or last is None:
        return _PATIENCE_BETWEEN
    beside = (last_object(files.path / name) or {} for name in ("validation.jsonl", "generations.jsonl"))
    seconds = sum(finite_number(line.get("seconds")) or 0.0 for line in (last, *beside))
    return max(_LEAST_PATIENCE, _PATIENCE * seconds)


def seconds_left(rows: Sequence[Row], total: int | None) -> float | None:
    """Return how long the steps that are left will take, by the mean of the last twenty; None where unknown."""
    taken = [value for row in rows[-_LATELY:] if (value := finite_number(row.get("seconds"))) is not None]
    if total is None or not taken:
        return None
    return max(0, total - int(rows[-1]["step"])) * fmean(taken)


def _state(
    files: RunFiles,
    status: Row,
    wrong: str,
    last: Mapping[str, Any] | None,
    written: float | None,
    now: float,
) -> str:
    said = status.get("state")
    if wrong:
        return DAMAGED
    if not status:
        return UNKNOWN
    if said not in _STATES:
        return DAMAGED
    if said != RUNNING or written is None:
        return str(said)
    quiet_for = now - written
    return SILENT if quiet_for > patience(files, last, str(status.get("phase"))) else RUNNING


def _latest(files: RunFiles) -> float | None:
    return max((time for name in _WRITTEN if (time := _time(files, name)) is not None), default=None)


def _time(files: RunFiles, name: str) -> float | None:
    sign = sign_of(files.path / name)
    return sign[0] if sign else None


def _whole(value: object) -> int | None:
    number = finite_number(value)
    return None if number is None else int(number)
