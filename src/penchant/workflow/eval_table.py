"""Several models in one table: which columns it has, what stands in it, and where it is written."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.config import Config, build_config
from penchant.data.atomic import disk_errors, write_json, write_text
from penchant.data.files import near_folder
from penchant.errors import UsageError
from penchant.evaluation.measures import Measure, compare_measures
from penchant.processes import is_first
from penchant.reporting.comparison_page import write_comparison_page
from penchant.workflow.evaluate import Column, Findings
from penchant.workflow.setup import run_config
from penchant.workflow.suites.answering import read_answers
from penchant.workflow.suites.suite import Suite

REFERENCE = "reference"
# Headings of the table, in their order; others follow.
HEADINGS = ("preference", "hallucination", "helpfulness", "harmlessness", "quality", "house style", "likelihood")


def columns_of(models: Sequence[str], reference: str | None, overrides: Sequence[str] = ()) -> list[Column]:
    """Return the columns of a comparison, the reference first.

    Without a name for it, the reference is what the first run started from. It is computed as the first model is.
    A run is called after its loss ("after SFT", "after DPO"), and after its folder too where two have the same. A
    folder that `penchant align` wrote stands for the runs of its stages.

    Args:
        models: Run directories, or names of models.
        reference: The model that all are compared with.
        overrides: `a.b=c` changes of every configuration.

    Raises:
        UsageError: It is not known what to compare with, or a model is named twice.
    """
    models = [run for model in models for run in _stages_of(model)]
    twice = [name for name, count in Counter(str(Path(model)) for model in models).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]} is named twice", fix="Name every model once.")
    columns = [_column(model, overrides) for model in models]
    start = reference or _start_of(columns[0])
    if start is None:
        raise UsageError(
            f"{models[0]} is not a finished run, so it is not known what to compare it with."
            f"{near_folder(Path(models[0]), 'config.yaml')}",
            fix="Name the model it started from with --reference.",
        )
    return [Column(REFERENCE, start, columns[0].config), *_told_apart(columns)]


def _stages_of(model: str) -> list[str]:
    """The finished runs of the stages in a folder, in their order; what is no such folder stands for itself."""
    path = Path(model)
    if not path.is_dir() or (path / "config.yaml").is_file() or (path / "config.json").is_file():
        return [model]
    numbered = ((re.match(r"\d+(?=-)", run.name), run) for run in path.iterdir())
    stages = sorted((int(number[0]), str(run)) for number, run in numbered if number and (run / "model").is_dir())
    return [run for _, run in stages] or [model]


def _column(model: str, overrides: Sequence[str]) -> Column:
    path = Path(model)
    config = run_config(path, overrides)
    if config is None:
        return Column(path.name or model, model, build_config({}, overrides))
    return Column(f"after {_loss_of(config)}", str(path / "model"), config, path)


def _loss_of(config: Config) -> str:
    return " + ".join(name.upper().replace("_", " ") for name in config.objective.losses)


def _start_of(column: Column) -> str | None:
    return None if column.run is None else column.config.model.reference or column.config.model.path


def _told_apart(columns: Sequence[Column]) -> list[Column]:
    """The columns with names of which none stands twice, nor is the reference's."""
    counts = Counter([REFERENCE, *(column.name for column in columns)])
    found: list[Column] = []
    for column in columns:
        name = column.name
        if counts[name] > 1:
            place = column.run or Path(column.model)
            name = f"{name} ({place.name})" if column.run else str(place)
        while name in {REFERENCE, *(each.name for each in found)}:
            name += "'"
        found.append(Column(name, column.model, column.config, column.run))
    return found


def comparison_of(found: Sequence[Findings], suites: Sequence[Suite]) -> dict[str, Any]:
    """Return the comparison as plain data; docs/run-directory.md says what its keys mean."""
    headings = list(HEADINGS)
    for findings in found:
        for judged in findings.judged.values():
            headings += [heading for heading in judged.lines if heading not in headings]
    tables = {heading: compare_measures([_measures(each, heading) for each in found]) for heading in headings}
    return {
        "columns": [
            {
                "name": each.column.name,
                "model": each.column.model,
                "run": str(each.column.run) if each.column.run else None,
                "weights": each.weights,
            }
            for each in found
        ],
        "suites": [{"name": suite.name, "note": suite.note, "content": suite.content} for suite in suites],
        "settings": {"max_new_tokens": found[0].column.config.eval.max_new_tokens},
        "table": {heading: lines for heading, lines in tables.items() if lines},
        "figures": {
            each.column.name: {
                name: {**judged.figures, **judged.details}
                for name, judged in each.judged.items()
                if judged.figures or judged.details
            }
            for each in found[1:]
        },
    }


def _measures(findings: Findings, heading: str) -> list[Measure]:
    return [measure for judged in findings.judged.values() for measure in judged.lines.get(heading, ())]


def answer_rows(found: Sequence[Findings], suite: Suite) -> list[dict[str, Any]]:
    """Return one row a prompt of a suite with answers: the prompt, and what every model said to it."""
    said = [read_answers(each.outcomes[suite.name]) for each in found]
    return [
        {
            "id": prompt.id,
            "category": prompt.category,
            "prompt": [turn.as_message() for turn in prompt.turns],
            "later": list(prompt.later),
            "answers": {
                each.column.name: {
                    "text": [answer.text for answer in answers[place]],
                    "finished": [answer.finished for answer in answers[place]],
                    "verdict": each.judged[suite.name].verdicts.get(prompt.id, ""),
                }
                for each, answers in zip(found, said, strict=True)
            },
        }
        for place, prompt in enumerate(suite.prompts)
    ]


def write_comparison(
    folder: Path, comparison: dict[str, Any], found: Sequence[Findings], suites: Sequence[Suite]
) -> None:
    """Write `eval/comparison.json` and `.html`, and `eval/answers/SUITE.jsonl` of every suite with answers."""
    if not is_first():
        return
    write_json(folder / "eval" / "comparison.json", comparison)
    answers = {suite.name: answer_rows(found, suite) for suite in suites if suite.prompts}
    if answers:
        with disk_errors(folder / "eval" / "answers"):
            (folder / "eval" / "answers").mkdir(parents=True, exist_ok=True)
    for name, rows in answers.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(folder / "eval" / "answers" / f"{name}.jsonl", "".join(lines))
    write_comparison_page(comparison, answers, folder / "eval" / "comparison.html")
