"""What a run has logged, under the names that TRL and transformers give to trackers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from penchant.web.line_tail import LineTail, object_of

FILES = {"train": "metrics.jsonl", "eval": "validation.jsonl", "generations": "generations.jsonl"}
_TRL_NAMES = {
    "train": {},
    "eval": {"seconds": "runtime"},
    "generations": {},
}
_KTO_NAMES = (("/undesirable", "/rejected"), ("/desirable", "/chosen"))  # as TRL's KTO trainer calls them
_LAST_PART = {"train": 0, "eval": 1, "generations": 2}  # of one step, in this order


class Record(NamedTuple):
    """What one line of a log holds.

    Attributes:
        part: `train`, `eval` or `generations`.
        step: The optimizer steps that were taken when it was written.
        figures: By the tracker's name, such as `train/rewards/margins`; always with `train/global_step`.
    """

    part: str
    step: int
    figures: dict[str, float]


class RunLogs:
    """The logs of a run, read as they grow.

    Args:
        run: The run directory.
    """

    def __init__(self, run: Path) -> None:
        self._tails = {part: LineTail(run / name) for part, name in FILES.items()}

    def read(self) -> list[Record]:
        """Return what is new, in the order of the steps; all of a log that was replaced, as a resume does."""
        found = [record for part, tail in self._tails.items() for record in _new(part, tail)]
        return sorted(found, key=lambda record: (record.step, _LAST_PART[record.part]))


def _new(part: str, tail: LineTail) -> Iterator[Record]:
    found: list[Record] = []
    for anew, lines in tail.read_all():
        if anew:
            found = []
        found += [record for line in lines if (record := record_of(part, object_of(line.text)))]
    yield from found


def record_of(part: str, line: Mapping[str, Any] | None) -> Record | None:
    """Return the record that a line holds, None where it holds none. See `Record` for the parts."""
    step = None if line is None else line.get("step")
    if line is None or not isinstance(step, int):
        return None
    figures = {f"{part}/{_name(part, key)}": value for key, value in _numbers(line).items() if key != "step"}
    return Record(part, step, {**figures, "train/global_step": float(step)})


def _name(part: str, key: str) -> str:
    for own, theirs in _KTO_NAMES:
        if key.endswith(own):
            return key.removesuffix(own) + theirs
    return _TRL_NAMES[part].get(key, key)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers of a line; lists with an entry a pair or an answer stay in the run directory."""
    return {key: float(value) for key, value in line.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def final_figures(run: Path) -> dict[str, float]:
    """Return what a run came to, by names that trackers sort behind `train/`; {} before its end.

    The single numbers of `eval/summary.json` as `trained/NAME`, their intervals as `trained_interval/NAME_low` and
    `_high`; those of `eval/training.json` as `trained_cost/NAME`. `train/train_runtime` (s) is the name that
    transformers has for the time in training.
    """
    costs, found = _object(run / "eval" / "training.json"), _object(run / "eval" / "summary.json")
    figures = {f"trained_cost/{key}": value for key, value in _numbers(costs).items()}
    figures |= {f"trained/{key}": value for key, value in _numbers(found).items() if key not in costs}
    for key, value in found.items():
        if key.endswith("_interval") and _is_interval(value):
            name = f"trained_interval/{key.removesuffix('_interval')}"
            figures |= {f"{name}_low": float(value[0]), f"{name}_high": float(value[1])}
    if "trained_cost/train_seconds" in figures:
        figures["train/train_runtime"] = figures["trained_cost/train_seconds"]
    return figures


def _is_interval(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(_is_number(bound) for bound in value)


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet; files are written whole
        return {}
    return found if isinstance(found, dict) else {}
