"""What the pages of runs say, as plain values for their templates."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from penchant.evaluation.monitors import displacement, drift, no_improvement
from penchant.evaluation.unusual_steps import unusual_steps
from penchant.reporting.figures import duration, finite_number, percent, plain_number
from penchant.reporting.findings import findings_of
from penchant.web.run_files import Row, RunFiles, mapping_of
from penchant.web.run_state import RUNNING, RunState, seconds_left

PAGES = {"report.html": "Report", "eval/comparison.html": "Comparison with the reference"}
_FOUR = (
    ("Loss", "loss", plain_number, "of a pair, before the step's update"),
    ("Accuracy", "rewards/accuracies", percent, "pairs with chosen above rejected; chance is 50%"),
    ("Margin", "rewards/margins", plain_number, "reward of chosen minus rejected"),
    (
        "Chosen that fell",
        "chosen_fell_fraction",
        percent,
        "chosen responses less probable than under the reference",
    ),
    ("Gradient norm", "grad_norm", plain_number, "before clipping"),
    ("Learning rate", "learning_rate", plain_number, "of this step"),
)
_LATELY = 10  # steps
_EVENTS = 12
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def ago(seconds: float) -> str:
    """Return how long ago something was, in its largest unit."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{max(0, seconds):.0f} s ago"


def table_row(state: RunState, now: float) -> Row:
    """Return a run's line in the table of runs: texts by column."""
    last = state.last or {}
    return {
        "name": state.name,
        "state": state.state,
        "why": "; ".join(state.problems) or state.reason,
        "progress": _progress(state),
        "written": "" if state.written is None else ago(now - state.written),
        "loss": _shown(last, "loss", plain_number),
        "accuracy": _shown(last, "rewards/accuracies", percent),
        "margin": _shown(last, "rewards/margins", plain_number),
        "verdict": state.verdict,
        "worked": state.worked,
        "findings": state.findings,
    }


def run_judged(files: RunFiles, state: RunState) -> Row:
    """Return what takes longer to say of a run: findings, what went wrong in finding them, steps worth a look."""
    steps = files.steps.rows()
    found, wrong = findings(files, state)
    unusual = [{"step": one.step, "reason": one.reason} for one in unusual_steps(steps)]
    return {"findings": found, "wrong": wrong, "unusual": unusual, "highest": _highest(steps)}


def run_view(files: RunFiles, state: RunState, now: float, judged: Row) -> Row:
    """Return what a run's page says beside its charts, and what it goes on to say while the run goes on.

    Args:
        files: Of the run.
        state: Of the run.
        now: Seconds since 1970.
        judged: See `run_judged`.
    """
    steps, training = files.steps.rows(), files.object("eval/training.json")[0]
    left = seconds_left(steps, state.total) if state.state == RUNNING and steps else None
    return {
        "progress": _progress(state),
        "written": "" if state.written is None else ago(now - state.written),
        "now": time.strftime("%H:%M:%S", time.localtime(now)),
        "left": "" if left is None else duration(left),
        "tiles": tiles(steps),
        **judged,
        "unfinished": not training,
        "problems": [*state.problems, *judged["wrong"], *_unread(files)],
        "events": events(files),
        "reasons": [str(reason) for reason in _list(_verdict(files).get("reasons"))],
        "pages": {name: title for name, title in PAGES.items() if (files.path / name).is_file()},
        "steps_known": bool(steps),
    }


def tiles(steps: Sequence[Row]) -> list[Row]:
    """Return the four numbers that matter: of the last step, and the mean of the last ten."""
    if not steps:
        return []
    found = []
    for label, key, show, about in _FOUR:
        value = finite_number(steps[-1].get(key))
        if value is not None:
            lately = [one for row in steps[-_LATELY:] if (one := finite_number(row.get(key))) is not None]
            mean = show(fmean(lately)) if len(lately) > 1 else ""
            found.append({"label": label, "value": show(value), "mean": mean, "over": len(lately), "about": about})
    return found[:4]


def findings(files: RunFiles, state: RunState) -> tuple[list[Row], list[str]]:
    """Return what the monitors found, and what went wrong in finding it.

    Of a finished run what it wrote itself; of another what its lines say so far, by the same functions and, as in
    the run, whether it gets anywhere only from half of its steps on.
    """
    written = findings_of(files.object("eval/training.json")[0])
    steps, generations = files.steps.rows(), files.generations.rows()
    if written is not None or not steps:
        return written or [], []
    moves = mapping_of(files.config()[0], "objective").get("reference_every") is not None
    late = state.total is not None and steps[-1]["step"] >= state.total / 2 and not moves
    try:
        seen = (displacement(steps), drift(generations), no_improvement(steps) if late else None)
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        return [], [f"The monitors cannot make sense of these lines ({type(error).__name__}: {error})"]
    return findings_of({"findings": [asdict(one) for one in seen if one is not None]}) or [], []


def events(files: RunFiles) -> list[Row]:
    """Return validations, checkpoints and rounds of answers, the newest first: step and what happened."""
    told = [
        *((row["step"], f"Validation: {_figures(row)}") for row in files.validations.rows()),
        *((row["step"], f"Answers: {_answers(row)}") for row in files.generations.rows()),
        *((step, f"Checkpoint {name}") for step, name in _checkpoints(files)),
    ]
    newest = sorted(told, key=lambda event: -event[0])[:_EVENTS]
    return [{"step": int(step), "what": what} for step, what in newest]


def _checkpoints(files: RunFiles) -> list[tuple[int, str]]:
    folder = files.path / "checkpoints"
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    parts = [(name, name.rpartition("-")[2]) for name in names]
    return [(int(number), name) for name, number in parts if number.isdecimal() and len(number) < 16]


def _figures(row: Mapping[str, Any]) -> str:
    wanted = (("loss", "loss"), ("accuracy", "rewards/accuracies"), ("margin", "rewards/margins"))
    return ", ".join(f"{name} {_shown(row, key, plain_number)}" for name, key in wanted if key in row)


def _answers(row: Mapping[str, Any]) -> str:
    kl, length = (_shown(row, key, plain_number) for key in ("kl_per_token", "mean_tokens"))
    return f"KL from the reference {kl} nats per token, {length} tokens in the mean"


def _highest(steps: Sequence[Row]) -> list[Row]:
    found = []
    for key, what in (("loss", "highest loss"), ("grad_norm", "highest gradient norm")):
        known = [(value, row["step"]) for row in steps if (value := finite_number(row.get(key))) is not None]
        if known:
            value, step = max(known)
            found.append({"step": int(step), "reason": f"{what}, {plain_number(value)}"})
    return found


def _unread(files: RunFiles) -> list[str]:
    logs = {"metrics.jsonl": files.steps, "validation.jsonl": files.validations}
    logs |= {"generations.jsonl": files.generations}
    return [
        f"{name}: lines that are no figures of a step: {log.unreadable}"
        for name, log in logs.items()
        if log.unreadable
    ]


def _verdict(files: RunFiles) -> Row:
    return mapping_of(files.object("eval/summary.json")[0], "verdict")


def _progress(state: RunState) -> str:
    if state.step is None:
        return ""
    return f"{state.step} / {state.total}" if state.total is not None else str(state.step)


def _shown(row: Mapping[str, Any], key: str, show: Any) -> str:
    value = finite_number(row.get(key))
    return "" if value is None else show(value)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
