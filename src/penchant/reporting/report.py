"""`report.html`: one self-contained page on a run, made from the files of its run directory and nothing else.

Whatever the page prints comes from models, data and configurations, so it passes one gate: control characters
are made visible, then Jinja escapes it. The page has no script and loads nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from penchant.data.atomic import write_text
from penchant.errors import DataError
from penchant.reporting.charts import (
    Bar,
    Chart,
    finite_number,
    fraction_bars,
    learning_curves,
    percent,
    plain_number,
)
from penchant.reporting.comparison_page import comparison_tables
from penchant.reporting.findings import findings_of, generations_of, worst_pairs_of
from penchant.reporting.page import page_environment, visible

Row = dict[str, Any]

EXAMPLES = 3
_MINUTE = 60
PASS = "pass"

# Figures that the reference and the policy both have: label, key, how to print it.
PAIRED = (
    ("Answers in the style", "pass_rate", percent),
    ("Preference accuracy, mean log-probability", "preference_accuracy", percent),
    ("Preference accuracy, summed log-probability", "preference_accuracy_sum", percent),
    ("Degenerate answers", "degenerate_rate", percent),
    ("Words per answer", "mean_words", plain_number),
    ("Loss per token, held-out examples (nats)", "token_loss", plain_number),
)


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that are worth reading."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def byte_size(size: float) -> str:
    """Return a number of bytes in the binary unit that leaves one to four digits before the point."""
    power = min(4, int(math.log2(size) // 10)) if size >= 1 else 0
    return f"{size / 1024**power:.{1 if power else 0}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


# Figures of the comparison or of the run: label, key, how to print it.
SINGLE = (
    ("Reward accuracy", "reward_accuracy", percent),
    ("Reward margin (beta x nats)", "reward_margin", plain_number),
    ("Distance from the reference (KL, nats per token)", "kl_to_reference", plain_number),
    ("Pairs whose chosen log-probability fell", "chosen_logps_fell_fraction", percent),
    ("Change of the loss per token", "token_loss_change", plain_number),
    ("Examples whose loss fell", "examples_better_fraction", percent),
    ("McNemar p, pass rate before against after", "mcnemar_p", plain_number),
    ("Test pairs", "test_pairs", plain_number),
    ("Test questions", "test_questions", plain_number),
    ("Training pairs", "train_pairs", plain_number),
    ("Training time", "train_seconds", duration),
    ("Total time", "total_seconds", duration),
    ("Peak memory", "peak_memory_bytes", byte_size),
)

# What `penchant plan` predicts: label, key, how to print it.
PREDICTED = (
    ("Time per step", "step_seconds", duration),
    ("Total time", "total_seconds", duration),
    ("Peak memory", "memory_bytes", byte_size),
)

_SHOWN_ELSEWHERE = {"verdict", "controls", "style", "breakdown_reference", "breakdown_policy", "part_seconds"}


class Answer(NamedTuple):
    """One test question with what became of its verdict."""

    row: Row
    change: str


def write_report(run_directory: Path) -> Path:
    """Make `report.html` in a run directory out of the files there.

    Only `metrics.jsonl` must be there; of every other part that is missing the page says so.

    Args:
        run_directory: A directory laid out as docs/run-directory.md describes.

    Returns:
        The path of the page; it is complete or it is not there.

    Raises:
        DataError: `metrics.jsonl` is missing or a file cannot be read as what it should be.
        DiskError: The page cannot be written.
    """
    page = render_report(run_directory)
    target = run_directory / "report.html"
    write_text(target, page)
    return target


def render_report(run_directory: Path) -> str:
    """Return the page that `write_report` writes; the same files give the same page."""
    metrics = _read_metrics(run_directory / "metrics.jsonl")
    validations = _steps_of(run_directory / "validation.jsonl") or []
    summary = _read_object(run_directory / "eval" / "summary.json")
    samples = _read_lines(run_directory / "samples" / "test.jsonl") or []
    answers = [Answer(row, _change(row)) for row in samples]
    config = _read_text(run_directory / "config.yaml")
    training = _read_object(run_directory / "eval" / "training.json")
    template = page_environment().get_template("report.html.j2")
    return template.render(
        run=run_directory.resolve().name,
        metrics=metrics,
        summary=summary,
        verdict=_mapping(summary, "verdict"),
        p_value=_figure(summary or {}, "mcnemar_p", plain_number),
        tiles=_tiles(summary or {}),
        cost=_cost(metrics, summary or {}),
        flow=Counter(answer.change for answer in answers),
        answers=answers,
        examples=choose_examples(answers),
        bars=_pass_rate_chart(summary or {}),
        curves=_curves(metrics, validations, _number(training or {}, "loss_at_reference")),
        findings=findings_of(training or {}),
        worst_pairs=worst_pairs_of(training or {}),
        generations=generations_of(_steps_of(run_directory / "generations.jsonl") or []),
        planned=(run_directory / "plan.json").is_file(),
        predictions=_predictions(_mapping(training, "plan")),
        paired=_paired_rows(summary or {}),
        single=_single_rows(summary or {}),
        controls=_controls(summary or {}),
        comparison=_comparison(run_directory / "eval" / "comparison.json"),
        breakdown=_breakdown(summary or {}),
        ledger=_read_ledger(run_directory / "ledger.parquet"),
        config=config,
        recipe=_reproduction(config),
    )


def choose_examples(answers: Sequence[Answer]) -> list[Answer]:
    """Return three answers that show gain and loss alike, always the same ones for the same run.

    The first that went from fail to pass, the first that still fails, the first that went from pass to fail;
    places that stay empty are filled in the order of the file.
    """
    kinds = ("Fail to pass", "Still fails", "Pass to fail")
    firsts = [next((answer for answer in answers if answer.change == kind), None) for kind in kinds]
    chosen = [answer for answer in firsts if answer is not None]
    others = [answer for answer in answers if not any(answer is taken for taken in chosen)]
    return [*chosen, *others][:EXAMPLES]


# --------------------------------------------------------------------------------------------- files


def _read_metrics(path: Path) -> list[Row]:
    steps = _steps_of(path)
    if steps is None:
        raise DataError(
            "There is no metrics.jsonl, so there is no run to report on.",
            where=str(path.parent),
            fix="Give the directory that a training run wrote; metrics.jsonl lies directly in it.",
        )
    if not steps:
        raise DataError(
            "metrics.jsonl holds no complete step yet.",
            where=str(path),
            fix="Make the report again when the run has taken its first step.",
        )
    return steps


def _steps_of(path: Path) -> list[Row] | None:
    """The lines of a file by their steps; a resumed run may repeat one, and then the later line counts."""
    lines = _read_lines(path)
    if lines is None:
        return None
    steps: dict[float, Row] = {}
    for row in lines:
        step = _number(row, "step")
        if step is None:
            raise _unreadable(path, "A line has no step.")
        steps[step] = row
    return [steps[step] for step in sorted(steps)]


def _read_lines(path: Path) -> list[Row] | None:
    text = _read_text(path)
    if text is None:
        return None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    rows: list[Row] = []
    for number, line in lines:
        row = _parsed(line)
        if isinstance(row, dict):
            rows.append(row)
        elif number != lines[-1][0]:  # a torn last line is one that was being written
            raise _unreadable(path, f"Line {number} is not a JSON object.")
    return rows


def _read_object(path: Path) -> Row | None:
    text = _read_text(path)
    if text is None:
        return None
    content = _parsed(text)
    if not isinstance(content, dict):
        raise _unreadable(path, "This is not a JSON object.")
    return content


def _comparison(path: Path) -> Row | None:
    found = _read_object(path)
    if found is None:
        return None
    try:
        return comparison_tables(found)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _unreadable(path, f"This is no comparison of models: {error!r}.") from error


def _read_ledger(path: Path) -> Row | None:
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, columns=["fate", "reason"])
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, "This is not a ledger with the columns fate and reason.") from error
    pairs = zip(table["fate"].to_pylist(), table["reason"].to_pylist(), strict=True)
    counts = Counter((str(fate), str(reason or "")) for fate, reason in pairs)
    rows = [(fate, reason, count) for (fate, reason), count in counts.items()]
    rows.sort(key=lambda row: (row[0] != "kept", row[0], -row[2], row[1]))
    return {"total": table.num_rows, "rows": rows}


def _read_text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, f"This cannot be read: {error.strerror}.") from error


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _unreadable(path: Path, what: str) -> DataError:
    return DataError(what, where=str(path), fix="Repair the file, or move it away to leave its part out.")


# ------------------------------------------------------------------------------------------- figures


def _number(source: Mapping[str, Any], key: str) -> float | None:
    return finite_number(source.get(key))


def _interval(source: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    match source.get(f"{key}_interval"):
        case [low, high] | {"low": low, "high": high}:
            bounds = finite_number(low), finite_number(high)
        case _:
            return None
    return None if bounds[0] is None or bounds[1] is None else (bounds[0], bounds[1])


def _figure(source: Mapping[str, Any], key: str, show: Callable[[float], str]) -> Row | None:
    value, interval = _number(source, key), _interval(source, key)
    if value is None:
        return None
    bounds = f"{show(interval[0])} to {show(interval[1])}" if interval else ""
    return {"value": show(value), "interval": bounds}


def _tiles(summary: Row) -> list[Row]:
    labels = {"pass_rate": "Answers in the style", "preference_accuracy": "Preference accuracy"}
    labels["degenerate_rate"] = "Degenerate answers"
    return [
        {
            "label": label,
            "before": _figure(summary, f"{key}_reference", percent),
            "after": _figure(summary, f"{key}_policy", percent),
        }
        for key, label in labels.items()
    ]


def _cost(metrics: Sequence[Row], summary: Row) -> list[tuple[str, str]]:
    """The cost as the evaluation wrote it, else as the steps add up to."""
    seconds = [value for row in metrics if (value := _number(row, "seconds")) is not None]
    memory = [value for row in metrics if (value := _number(row, "peak_memory_bytes")) is not None]
    measured = {"train_seconds": math.fsum(seconds) if seconds else None}
    measured |= {"peak_memory_bytes": max(memory, default=None)}
    figures = measured | {key: summary[key] for *_, key, _ in SINGLE if key in summary}
    wanted = {"train_seconds", "total_seconds", "peak_memory_bytes", "train_pairs"}
    values = ((label, _number(figures, key), show) for label, key, show in SINGLE if key in wanted)
    return [(label, show(value)) for label, value, show in values if value is not None]


def _paired_rows(summary: Row) -> list[tuple[str, Row | None, Row | None]]:
    rows = (
        (label, _figure(summary, f"{key}_reference", show), _figure(summary, f"{key}_policy", show))
        for label, key, show in PAIRED
    )
    return [row for row in rows if row[1] or row[2]]


def _single_rows(summary: Row) -> list[tuple[str, Row]]:
    known = [(label, _figure(summary, key, show)) for label, key, show in SINGLE]
    taken = {key for _, key, _ in SINGLE} | _SHOWN_ELSEWHERE
    taken |= {f"{key}_{side}" for _, key, _ in PAIRED for side in ("reference", "policy")}
    others = sorted(key for key in summary.keys() - taken if not key.endswith("_interval"))
    unknown = [(key, _figure(summary, key, plain_number) or _as_text(summary[key])) for key in others]
    return [(label, figure) for label, figure in (*known, *unknown) if figure is not None]


def _as_text(value: object) -> Row:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {"value": text[:200], "interval": ""}


def _curves(metrics: Sequence[Row], validations: Sequence[Row], at_reference: float | None) -> list[Chart]:
    return [
        *learning_curves(metrics, loss_at_reference=at_reference),
        *learning_curves(validations, held_out=True, loss_at_reference=at_reference),
    ]


def _predictions(plan: Row) -> list[Row]:
    """Each planned figure that the run graded: predicted with its interval, measured, and whether it held."""
    rows = []
    for label, key, show in PREDICTED:
        grade = _mapping(plan, key)
        measured, low, high = (_number(grade, name) for name in ("measured", "low", "high"))
        if measured is None or low is None or high is None:
            continue
        predicted = _figure({**grade, "value_interval": [low, high]}, "value", show)
        missed = "less than predicted" if measured < low else "more than predicted" if measured > high else ""
        rows.append({"label": label, "predicted": predicted, "measured": show(measured), "missed": missed})
    return rows


def _controls(summary: Row) -> list[Row]:
    found = summary.get("controls")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return [
        {
            "name": str(row.get("name", "unnamed control")),
            "pass_rate": _figure(row, "pass_rate", percent),
            "degenerate_rate": _figure(row, "degenerate_rate", percent),
            "kl": _figure(row, "kl_to_reference", plain_number),
            "p": _figure(row, "p_against_dpo", plain_number),
            "bar": (_number(row, "pass_rate"), _interval(row, "pass_rate")),
            "committed": row.get("committed") is not False,
            "origin": _origin(row),
        }
        for row in rows
    ]


def _origin(control: Row) -> str:
    """Where a control's figures come from; whatever is not said to be of this run is not of this run."""
    if control.get("committed") is False:
        return "measured in this run"
    date = control.get("date") or "on a date not given"
    machine = control.get("machine") or "a machine not given"
    return f"came with the package, not measured in this run: {date}, {machine}"


def _pass_rate_chart(summary: Row) -> Chart | None:
    ours = {"Before: the reference": "pass_rate_reference", "After: DPO": "pass_rate_policy"}
    rows = [(label, _number(summary, key), _interval(summary, key), True) for label, key in ours.items()]
    for control in _controls(summary):
        rows.append((visible(control["name"]), *control["bar"], not control["committed"]))
    bars = [Bar(label, value, interval, here) for label, value, interval, here in rows if value is not None]
    return fraction_bars("pass-rate", "Answers in the style, with 95% intervals", bars) if bars else None


def _breakdown(summary: Row) -> list[tuple[str, str, str]]:
    before, after = _mapping(summary, "breakdown_reference"), _mapping(summary, "breakdown_policy")
    reasons = sorted(before.keys() | after.keys())
    reasons.sort(key=lambda reason: _number(before, reason) or 0, reverse=True)
    return [(reason, str(before.get(reason, 0)), str(after.get(reason, 0))) for reason in reasons]


def _mapping(source: Mapping[str, Any] | None, key: str) -> Row:
    found = (source or {}).get(key)
    return found if isinstance(found, dict) else {}


# ------------------------------------------------------------------------------- answers and recipe


def _change(row: Row) -> str:
    before, after = row.get("reference_verdict"), row.get("policy_verdict")
    if before is None or after is None:
        return "Not judged"
    if after == PASS:
        return "Passes both times" if before == PASS else "Fail to pass"
    return "Pass to fail" if before == PASS else "Still fails"


def _reproduction(config: str | None) -> list[tuple[str, str]]:
    """The seed, versions and circumstances that the resolved configuration names, at most one level down."""
    try:
        content = yaml.safe_load(config or "")
    except (yaml.YAMLError, RecursionError, ValueError):
        return []
    facts: list[tuple[str, object]] = []
    for key, value in content.items() if isinstance(content, dict) else ():
        if key in _CIRCUMSTANCES:
            facts.append((key, value))
        for name, entry in value.items() if isinstance(value, dict) else ():
            if name == "seed" or key in _CIRCUMSTANCES:
                facts.append((f"{key}.{name}", entry))
    return [(name, str(entry)) for name, entry in facts if isinstance(entry, str | int | float)]


_CIRCUMSTANCES = ("seed", "versions", "git", "device", "data", "fingerprint", "data_fingerprint")
