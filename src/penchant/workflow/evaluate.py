"""`penchant eval`: policy and reference side by side on held-out pairs, examples to imitate, and questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import Config, build_config
from penchant.data.atomic import disk_errors, write_json, write_text
from penchant.errors import DataError, UsageError
from penchant.evaluation.divergence import divergence_figures
from penchant.evaluation.house_style import STYLE
from penchant.evaluation.likelihood import likelihood_figures
from penchant.evaluation.preference import preference_figures
from penchant.evaluation.style_figures import (
    JudgedAnswer,
    compare,
    control_figures,
    cut_answers,
    judged,
    style_figures,
)
from penchant.generation.generate import generate
from penchant.models.load import LoadedModel, architecture_for, load_model
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device, choose_precision
from penchant.objective.logps import PairLogps
from penchant.objective.score import score_pairs
from penchant.processes import is_first
from penchant.types import TokenizedPair
from penchant.workflow.make_pairs import Question
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import (
    describe_ledger,
    read_pairs,
    run_config,
    scoring_model,
    set_threads,
    tokenize,
)
from penchant.workflow.sft import training_pairs
from penchant.workflow.stopping import Stopper, stoppable_progress

_PAIRS, _EXAMPLES = _WHAT = ("pairs", "examples")


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
    """Return the figures and the judged answers, one row a question.

    Args:
        subject: Policy, reference and configuration.
        data: Held-out pairs, a file or a folder with a `test` split.
        questions: Of the house-style task; none = no generation.
        limit: Only the first rows of the data.
        controls: Figures of further controls, shown beside.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    set_threads(subject.config.engine)
    device = choose_device(subject.config.engine.device)
    names = {"reference": subject.reference, "policy": subject.policy}
    figures: dict[str, Any] = {**names}
    sets: dict[str, Sequence[TokenizedPair]] = {}
    logps: dict[str, dict[str, PairLogps]] = {what: {} for what in _WHAT}
    answers: dict[str, list[JudgedAnswer]] = {}
    for who, name in names.items():  # one after the other: two models at once would double the memory
        stopper.check()
        loaded = _load(subject, name, device)
        if data is not None:
            sets = sets or _held_out(data, limit, loaded, subject.config, reporter)
            for what, rows in sets.items():
                logps[what][who] = _score(loaded, rows, subject.config, reporter, stopper, who=who, what=what)
        if questions:
            answers[who] = answer_questions(loaded, questions, subject.config, reporter, stopper, who=who)
        del loaded
        release_memory()
    for what, rows in sets.items():
        both = logps[what]["policy"], logps[what]["reference"]
        clusters = [pair.cluster or pair.id for pair in rows]
        if what == _EXAMPLES:
            figures |= likelihood_figures(*both, clusters)
        else:
            figures |= preference_figures(*both, clusters, beta=subject.config.objective.beta)
    stopper.check()
    figures |= divergence_figures(
        _load(subject, subject.policy, device), _load(subject, subject.reference, device)
    )
    if not questions:
        return figures, []
    return figures | _style(questions, answers, controls), _rows(questions, answers)


def write_evaluation(run: Path, figures: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
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


def answer_questions(
    loaded: LoadedModel,
    questions: Sequence[Question],
    config: Config,
    reporter: Reporter,
    stopper: Stopper,
    *,
    who: str,
) -> list[JudgedAnswer]:
    """Return one judged greedy answer a question. The model's weights are cast for generation and stay so."""
    if choose_precision(config.engine.precision, str(loaded.model.device)) == "bf16":
        loaded.model.bfloat16()
    chat = loaded.chat.in_format(config.data.format)
    with stoppable_progress(reporter, stopper, f"Answers of the {who}", len(questions)) as answered:
        generated = generate(
            loaded,
            [chat.prompt_ids(question.turns()) for question in questions],
            max_new_tokens=config.eval.max_new_tokens,
            batch_rows=config.eval.batch_rows,
            on_rows=answered,
            check_stop=stopper.check,
        )
    return [
        judged(question.text, loaded.chat.decode(row[0].ids), finished=row[0].finished)
        for question, row in zip(questions, generated, strict=True)
    ]


def _held_out(
    data: Path, limit: int | None, loaded: LoadedModel, config: Config, reporter: Reporter
) -> dict[str, Sequence[TokenizedPair]]:
    """The held-out rows by what they are: pairs; after SFT examples to imitate, and pairs too where they are."""
    sets: dict[str, Sequence[TokenizedPair]] = {}
    read = {_PAIRS: lambda: read_pairs(data, split="test", limit=limit)}
    if config.objective.loss == "sft":
        read = {_EXAMPLES: lambda: training_pairs(config, data, split="test", limit=limit), **read}
    for what, rows in read.items():
        try:
            pairs, ledger = rows()
        except DataError:
            if not sets:
                raise
            continue  # examples that are no pairs
        sets[what] = tokenize(pairs, ledger, loaded.chat, config.data)
        reporter.note(f"Held-out {what}: {describe_ledger(ledger)}")
    return sets


def _load(subject: Subject, name: str, device: str) -> LoadedModel:
    return load_model(name, architecture=architecture_for(subject.config.model, name), device=device)


def _score(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: Config,
    reporter: Reporter,
    stopper: Stopper,
    *,
    who: str,
    what: str,
) -> PairLogps:
    quiet = reporter if who == "policy" else Reporter()  # what a model cannot do is said once
    model = scoring_model(loaded, config.engine, max_tokens=config.data.max_tokens, trunk_layers=0, reporter=quiet)
    with stoppable_progress(reporter, stopper, f"Scoring held-out {what}, {who}", len(pairs)) as scored:
        return score_pairs(model, pairs, micro_batch_tokens=config.engine.micro_batch_tokens, on_pairs=scored)


def _style(
    questions: Sequence[Question],
    answers: dict[str, list[JudgedAnswer]],
    controls: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    texts = [question.text for question in questions]
    policy, reference = answers["policy"], answers["reference"]
    cuts = [
        control_figures(f"reference cut after {name}", cut_answers(texts, reference, count), policy)
        for count, name in ((1, "one sentence"), (2, "two sentences"), (3, "three sentences"))
    ]
    return {
        "style": STYLE,
        "test_questions": len(questions),
        **style_figures("reference", reference),
        **style_figures("policy", policy),
        **compare(policy, reference),
        "controls": [*cuts, *controls],
    }


def _rows(questions: Sequence[Question], answers: dict[str, list[JudgedAnswer]]) -> list[dict[str, Any]]:
    return [
        {
            "id": question.id,
            "question": question.text,
            "reference": reference.text,
            "policy": policy.text,
            "reference_verdict": reference.verdict,
            "policy_verdict": policy.verdict,
        }
        for question, reference, policy in zip(questions, answers["reference"], answers["policy"], strict=True)
    ]
