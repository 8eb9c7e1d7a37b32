"""`report.html`: one self-contained page on a run, made from the files of its run directory and nothing else.

Whatever the page prints comes from models, data and configurations, so it passes one gate: control characters
are made visible, then Jinja escapes it. The page has no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.data.atomic import write_text
from penchant.reporting.curves import FELL, Event, curve_chart, learning_curves
from penchant.reporting.figures import (
    Row,
    duration,
    figure_of,
    mapping_of,
    number_of,
    percent,
    plain_number,
)
from penchant.reporting.findings import findings_of, generations_of, worst_pairs_of
from penchant.reporting.page import page_environment
from penchant.reporting.report_answers import (
    answers_of,
    card_of,
    choose_examples,
    fitting,
    flow_of,
    from_suites,
    lengths_of,
    marked_where_alike,
)
from penchant.reporting.report_data import ledger_of
from penchant.reporting.report_evaluation import (
    control_chart,
    control_rows,
    failure_rows,
    judge_cards,
    known_rows,
    other_rows,
    paired_rows,
    side_by_side,
)
from penchant.reporting.report_generations import first_and_last, generation_charts
from penchant.reporting.report_pairs import (
    fallen_pairs,
    length_chart,
    length_figures,
    length_rows,
    quarters_chart,
    recent_pairs,
    token_rows,
)
from penchant.reporting.report_setup import (
    chosen_settings,
    circumstances_of,
    commands_of,
    events_of,
    next_steps,
    predictions_of,
    state_of,
)
from penchant.reporting.report_verdict import before_and_after, cost_of, verdict_of
from penchant.reporting.run_files import RunFiles, read_run_files

PAGE_FILE = "report.html"
PARTS = (
    ("verdict", "Did it work?"),
    ("cost", "Cost"),
    ("answers", "Before and after"),
    ("curves", "Training"),
    ("displacement", "Did chosen rise?"),
    ("length", "Length"),
    ("monitors", "Monitors"),
    ("evaluation", "Evaluation"),
    ("data", "Data"),
    ("all-answers", "All answers"),
    ("plan", "Plan"),
    ("reproduce", "Reproduce"),
    ("next", "Next"),
)
_MOST_ROWS = 40  # of the answers on the way


def write_report(run_directory: Path, target: Path | None = None) -> Path:
    """Make `report.html` in a run directory out of the files there.

    Of a part that is missing or damaged the page says so.

    Args:
        run_directory: A directory laid out as docs/run-directory.md describes.
        target: Where to write it; None = `report.html` in that directory.

    Returns:
        The path of the page; it is complete or it is not there.

    Raises:
        DataError: There is no run in that directory.
        DiskError: The page cannot be written.
    """
    page = render_report(run_directory)
    target = target or run_directory / PAGE_FILE
    write_text(target, page)
    return target


def render_report(run_directory: Path) -> str:
    """Return the page that `write_report` writes; the same files give the same page."""
    files = read_run_files(run_directory)
    template = page_environment().get_template("report.html.j2")
    return template.render(
        files=files,
        parts=PARTS,
        has_metrics=(run_directory / "metrics.jsonl").is_file(),
        checkpoints=files.checkpoints,
        **_first_screen(files),
        **_answers(files),
        **_training(files),
        **_evaluation(files),
        **_setup(files),
    )


def _first_screen(files: RunFiles) -> dict[str, Any]:
    verdict = verdict_of(files.summary)
    parts = mapping_of({**(files.training or {}), **(files.summary or {})}, "part_seconds")
    known = [(name, value) for name in parts if (value := number_of(parts, name)) is not None]
    return {
        "verdict": verdict,
        "so_far": so_far(files.steps),
        "state": state_of(files),
        "losses": " + ".join(name.upper() for name in files.losses),
        "picture": before_and_after(files.summary) if files.summary else None,
        "p_value": figure_of(files.summary or {}, "mcnemar_p", plain_number),
        "cost": cost_of(files),
        "parts_of_time": [(name, duration(value)) for name, value in known],
        "next_steps": next_steps(files, verdict.tone),
    }


def so_far(steps: Sequence[Row]) -> str:
    """Return in a sentence what training itself came to; "" before the first step."""
    if not steps:
        return ""
    tail = steps[-max(1, len(steps) // 10) :]
    said = []
    for key, name, show in (
        ("loss", "loss", plain_number),
        ("rewards/accuracies", "chosen above rejected in", percent),
        ("rewards/margins", "margin", plain_number),
    ):
        values = [value for row in tail if (value := number_of(row, key)) is not None]
        if values:
            said.append(f"{name} {show(sum(values) / len(values))}")
    last = plain_number(number_of(steps[-1], "step") or 0)
    return f"After step {last}, in the last tenth of the steps: {', '.join(said)}." if said else ""


def _answers(files: RunFiles) -> dict[str, Any]:
    found = answers_of(files.samples)
    file, examples = "samples/test.jsonl", choose_examples(found)
    if not found and files.suite_answers:
        suite, rows = files.suite_answers
        file, found = f"eval/answers/{suite}.jsonl", from_suites(files.comparison, rows)
        examples = found[:3]
    cards, thinned = fitting(found)
    return {
        "flow": flow_of(found),
        "examples": [card_of(answer) for answer in examples],
        "cards": cards,
        "thinned": thinned,
        "answers_file": file,
        "answer_lengths": lengths_of(found),
    }


def _training(files: RunFiles) -> dict[str, Any]:
    training = files.training or {}
    events: list[Event] = events_of(files)
    at_reference = number_of(training, "loss_at_reference")
    pairs = recent_pairs(files.pair_lines)
    every = -(-len(files.generations) // _MOST_ROWS)
    return {
        "curves": learning_curves(
            files.steps, validations=files.validations, loss_at_reference=at_reference, events=events
        ),
        "events": events,
        "quarters": quarters_chart(pairs),
        "fell": curve_chart(FELL, files.steps, files.validations, events),
        "no_reference": bool(files.losses) and set(files.losses) <= _WITHOUT_REFERENCE,
        "worst_pairs": [_marked(row) for row in worst_pairs_of(training)],
        "fallen": fallen_pairs(pairs),
        "lengths": length_chart(pairs),
        "length_rows": length_rows(pairs),
        "token_rows": token_rows(pairs),
        "length_figures": length_figures(files.summary or {}),
        "findings": findings_of(training),
        "generations": generations_of(files.generations[:: every or 1]),
        "generations_left": every if every > 1 else 0,
        "generation_charts": generation_charts(files.generations),
        "on_the_way": first_and_last(files.generations),
    }


_WITHOUT_REFERENCE = {"sft", "simpo", "orpo", "cpo"}


def _marked(row: Row) -> Row:
    chosen, rejected = marked_where_alike(row["chosen"], row["rejected"])
    return {**row, "chosen": chosen, "rejected": rejected}


def _evaluation(files: RunFiles) -> dict[str, Any]:
    summary = files.summary or {}
    comparison, problem = side_by_side(files)
    return {
        "comparison": comparison,
        "problems": [*files.problems, *([problem] if problem else [])],
        "paired": paired_rows(summary),
        "single": known_rows(summary),
        "others": other_rows(summary),
        "controls": control_rows(summary),
        "bars": control_chart(summary),
        "failures": failure_rows(summary),
        "judges": judge_cards(files),
        "ledger": ledger_of(files.ledger),
        "ledger_damaged": any(name == "ledger.parquet" for name, _ in files.problems),
    }


def _setup(files: RunFiles) -> dict[str, Any]:
    return {
        "predictions": predictions_of(mapping_of(files.training or {}, "plan")),
        "commands": commands_of(files),
        "settings": chosen_settings(files.config) if files.config else None,
        "recipe": circumstances_of(files.config),
    }
