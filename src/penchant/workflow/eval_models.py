"""The whole of `penchant eval`: models and data in, figures, comparison and files out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from penchant.evaluation.judges.parse import JudgeSetting, parse_judge
from penchant.evaluation.judges.watching import Watch
from penchant.models.precision import choose_device
from penchant.processes import is_first
from penchant.reporting.report import write_report
from penchant.workflow.eval_table import columns_of, comparison_of, write_comparison
from penchant.workflow.evaluate import Column, flat_figures, run_suites, style_answers, write_evaluation
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper, stoppable_progress
from penchant.workflow.suites.chosen import Wanted, chosen_suites
from penchant.workflow.suites.prompts import Judge


def eval_models(
    models: Sequence[str],
    wanted: Wanted,
    names: Sequence[str] = (),
    *,
    judge: str | None = None,
    reference: str | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> tuple[dict[str, Any], dict[str, Any], Path | None]:
    """Return the figures of `eval/summary.json`, the comparison, and the folder that it was written to.

    One run alone also gets its `eval/summary.json` and `samples/test.jsonl`; the figures of a single model are
    returned in any case, those of several stand in the comparison alone. The report of a run that is written to is
    made anew.

    Args:
        models: Run directories, or names of models.
        wanted: What there is to measure by.
        names: Suites by name; none = every one that there is data for.
        judge: Who compares answers to free prompts, see `penchant.evaluation.judges.parse.FORMS`; None = nobody.
        reference: What all are compared with; by default what the first run started from.
        out: Folder to write to; by default the last run that is named; without either nothing is written.
        overrides: `a.b=c` changes of every configuration.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        UsageError: It is not known what to compare with.
        DataError: A file cannot be read as what it should be.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    columns = columns_of(models, reference, overrides)
    suites = chosen_suites(
        wanted, names, [column.config for column in columns[1:]], _judge(judge, columns, reporter, stopper)
    )
    for suite in suites:
        if suite.note:
            reporter.note(f"{suite.name}: {suite.note}")
    found = run_suites(columns, suites, reporter=reporter, stopper=stopper)
    comparison = comparison_of(found, suites)
    figures = flat_figures(found) if len(columns) == 2 else {}
    runs = [column.run for column in columns if column.run is not None]
    target = out or (runs[-1] if runs else None)
    if target is not None:
        write_comparison(target, comparison, found, suites)
        if figures:
            asked = any(suite.name == "house-style" for suite in suites)
            write_evaluation(target, figures, style_answers(found, wanted.questions() if asked else ()))
    if target is not None and target in runs and is_first():
        write_report(target)
    return figures, comparison, target


def _judge(text: str | None, columns: Sequence[Column], reporter: Reporter, stopper: Stopper) -> Judge | None:
    """The judge that a text stands for; the implicit reward is the last model's against the reference."""
    if text is None:
        return None
    config = columns[-1].config
    setting = JudgeSetting(
        policy=columns[-1].model,
        reference=columns[0].model,
        beta=config.objective.beta,
        device=choose_device(config.engine.device),
        watch=Watch(partial(stoppable_progress, reporter, stopper), stopper.check),
    )
    return Judge(parse_judge(text, setting), reads=text.startswith("llm"))
