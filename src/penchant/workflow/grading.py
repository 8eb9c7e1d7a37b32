"""A prediction in a run directory, and what the run says about it afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.data.atomic import write_json

PLAN_FILE = "plan.json"
QUANTITIES = ("memory_bytes", "step_seconds", "total_seconds")


@dataclass(frozen=True)
class Estimate:
    """A predicted figure > 0 with the interval that it should lie in."""

    value: float
    low: float
    high: float

    @classmethod
    def within(cls, value: float, relative: float) -> Estimate:
        """Return the estimate whose interval reaches from value / (1 + relative) to value x (1 + relative)."""
        return cls(value, value / (1 + relative), value * (1 + relative))

    def holds(self, measured: float) -> bool:
        """Return whether a measured figure lies in the interval."""
        return self.low <= measured <= self.high


def write_prediction(
    out: Path, config: Config, estimates: Mapping[str, Estimate], facts: Mapping[str, Any]
) -> None:
    """Write `plan.json` into what is to be a run directory.

    Raises:
        DiskError: There is no room or no permission.
    """
    plain = {name: asdict(estimate) for name, estimate in estimates.items()}
    write_json(out / PLAN_FILE, {**plain, **facts, "config": config.resolved()})


def grade_prediction(
    out: Path, config: Config, pairs: int, measured: Mapping[str, float]
) -> dict[str, dict[str, Any]] | None:
    """Return each predicted figure with the measured one and whether the interval held it.

    Args:
        out: The run directory.
        config: The run's.
        pairs: Training pairs.
        measured: By the names of `QUANTITIES`.

    Returns:
        None when there is no prediction for this very run: none at all, or of another configuration or data.
    """
    try:
        plan = json.loads((out / PLAN_FILE).read_text(encoding="utf-8"))
        if plan["config"] != config.resolved() or plan["pairs"] != pairs:
            return None
        estimates = {name: Estimate(**plan[name]) for name in QUANTITIES}
        return {
            name: {**asdict(estimate), "measured": measured[name], "held": estimate.holds(measured[name])}
            for name, estimate in estimates.items()
        }
    except (OSError, ValueError, KeyError, TypeError):  # absent, or edited by someone
        return None


def steady_seconds(steps: Sequence[Mapping[str, float]]) -> float:
    """Return the mean seconds of a run's steps but the first, which warms up, where there are others."""
    seconds = [step["seconds"] for step in steps]
    return math.fsum(seconds[1:] or seconds) / len(seconds[1:] or seconds)


def describe_grade(grade: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line: what was planned, and what it came to."""
    step, memory, total = (grade[name] for name in ("step_seconds", "memory_bytes", "total_seconds"))
    return (
        f"Plan: {step['value']:.2f} s a step ({step['low']:.2f} to {step['high']:.2f}), "
        f"measured {step['measured']:.2f}; {memory['value'] / 1e9:.2f} GB ({memory['low'] / 1e9:.2f} to "
        f"{memory['high'] / 1e9:.2f}), measured {memory['measured'] / 1e9:.2f}; {total['value']:.0f} s in all "
        f"({total['low']:.0f} to {total['high']:.0f}), measured {total['measured']:.0f}"
    )
