"""`penchant eval`: models side by side with their reference, on every suite that there is data for.

Each model is loaded once, runs all suites and is released before the next; then its outcomes are judged beside the
reference's. What a suite is stands in `penchant.workflow.suites.suite`; what becomes of the figures in
`penchant.workflow.eval_table`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penchant.config import Config, build_config
from penchant.data.atomic import disk_errors, write_json, write_text
from penchant.errors import UsageError
from penchant.evaluation.pair_scores import keep_pair_scores
from penchant.models.load import LoadedModel, architecture_for, load_model
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device
from penchant.processes import is_first
from penchant.workflow.make_pairs import Question
from penchant.workflow.outcomes import find_outcome, keep_outcome, model_facts
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import run_config, set_threads
from penchant.workflow.stopping import Stopper
from penchant.workflow.suites.pairs import pair_suites
from penchant.workflow.suites.prose import prose_suite
from penchant.workflow.suites.style import judged_outcome, style_rows, style_suite
from penchant.workflow.suites.suite import Judged, Outcome, Suite, Work


@dataclass(frozen=True)
class Subject:
    """What is judged.

    Attributes:
        policy: Model directory or name.
        reference: What it is compared with.
        config: How it is computed; beta turns log-ratios into rewards.
        run: The run directory, when the policy came from one.
    """

    policy: str
    reference: str
    config: Config
    run: Path | None


@dataclass(frozen=True)
class Column:
    """One model of a comparison.

    Attributes:
        name: Its heading.
        model: Model directory or name.
        config: How it is computed and asked.
        run: Its run directory, when it came from one.
    """

    name: str
    model: str
    config: Config
    run: Path | None = None


@dataclass(frozen=True)
class Findings:
    """What was found of one model.

    Attributes:
        column: Which.
        weights: Digest of its weights.
        judged: What each suite says of it, by the suite's name.
        outcomes: Of the suites with answers, the outcome, by the suite's name.
    """

    column: Column
    weights: str
    judged: dict[str, Judged]
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def subject_of(model_or_run: str, reference: str | None, overrides: Sequence[str] = ()) -> Subject:
    """Return what a run directory, or a model and a reference, stand for.

    Raises:
        UsageError: A model is given without a reference.
    """
    path = Path(model_or_run)
    config = run_config(path, overrides)
    if config is not None:
        return Subject(str(path / "model"), reference or config.model.reference or config.model.path, config, path)
    if reference is None:
        raise UsageError(
            f"{model_or_run} is not a finished run, so it is not known what to compare it with",
            fix="Name the model it started from with --reference.",
        )
    return Subject(model_or_run, reference, build_config({}, overrides), None)


def evaluate(
    subject: Subject,
    *,
    data: Path | None,
    questions: Sequence[Question] = (),
    limit: int | None = None,
    controls: Sequence[dict[str, Any]] = (),
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the figures of one policy and its judged answers, one row a question.

    Args:
        subject: Policy, reference and configuration.
        data: Held-out pairs, a file or a folder with a `test` split.
        questions: Of the house-style task; none = no generation.
        limit: Only the first rows of the data.
        controls: Figures of further controls, shown beside.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.
    """
    columns = [Column(who, getattr(subject, who), subject.config, subject.run) for who in ("reference", "policy")]
    suites = [
        *(pair_suites(data, [subject.config], limit=limit) if data is not None else ()),
        prose_suite(),
        *([style_suite(questions, controls)] if questions else ()),
    ]
    found = run_suites(columns, suites, reporter=reporter, stopper=stopper)
    return flat_figures(found), style_answers(found, questions)


def run_suites(
    columns: Sequence[Column],
    suites: Sequence[Suite],
    *,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> list[Findings]:
    """Return what the suites found of every model; the first one is the reference. Runs get their pairs' scores.

    Args:
        columns: The models.
        suites: What is measured; those that generate answers are run last.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    ordered = sorted(suites, key=lambda suite: bool(suite.prompts))  # generation may cast the weights
    found: list[Findings] = []
    theirs: dict[str, Outcome] = {}
    for place, column in enumerate(columns):
        work = Work(column.name, column.config, reporter, stopper, first=place == 0)
        weights, outcomes = _outcomes(column, ordered, work)
        judged = {suite.name: suite.judge(outcomes[suite.name], theirs.get(suite.name), work) for suite in ordered}
        theirs = theirs or outcomes
        answers = {suite.name: outcomes[suite.name] for suite in suites if suite.prompts}
        found.append(Findings(column, weights, judged, answers))
        scores = next((each.pair_scores for each in judged.values() if each.pair_scores is not None), None)
        if column.run is not None and scores is not None:
            keep_pair_scores(column.run, scores)
    return found


def _outcomes(column: Column, suites: Sequence[Suite], work: Work) -> tuple[str, dict[str, Outcome]]:
    """One model's outcome of each suite, computed or found, and the digest of its weights."""
    work.stopper.check()
    set_threads(column.config.engine)
    loaded = _load(column)
    facts = model_facts(loaded, column.config)
    outcomes: dict[str, Outcome] = {}
    for suite in suites:
        work.stopper.check()
        outcome = find_outcome(suite, facts)
        if outcome is None:
            outcome = suite.measure(loaded, work)
            keep_outcome(suite, facts, outcome)
        else:
            work.reporter.note(f"{suite.name} of {column.name}: found as it was measured before")
        outcomes[suite.name] = outcome
    del loaded
    release_memory()
    return facts["weights"], outcomes


def _load(column: Column) -> LoadedModel:
    device = choose_device(column.config.engine.device)
    return load_model(
        column.model, architecture=architecture_for(column.config.model, column.model), device=device
    )


def flat_figures(found: Sequence[Findings]) -> dict[str, Any]:
    """Return the figures of `eval/summary.json` for a reference and one policy."""
    reference, policy = found
    figures: dict[str, Any] = {"reference": reference.column.model, "policy": policy.column.model}
    for judged in policy.judged.values():
        figures |= judged.figures
    return figures


def style_answers(found: Sequence[Findings], questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Return the lines of `samples/test.jsonl` for a reference and one policy; [] without questions."""
    if not questions:
        return []
    reference, policy = (judged_outcome(questions, each.outcomes["house-style"]) for each in found)
    return style_rows(questions, reference, policy)


def write_evaluation(run: Path, figures: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Write `eval/summary.json` and `samples/test.jsonl` of a run, training facts included but for findings."""
    if not is_first():
        return
    training = run / "eval" / "training.json"
    facts = json.loads(training.read_text(encoding="utf-8")) if training.is_file() else {}
    facts = {name: value for name, value in facts.items() if name not in ("findings", "worst_pairs")}
    write_json(run / "eval" / "summary.json", {**facts, **figures})
    if rows:
        with disk_errors(run / "samples"):
            (run / "samples").mkdir(exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(run / "samples" / "test.jsonl", text)
