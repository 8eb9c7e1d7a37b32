"""`penchant.evaluate`: figures with intervals, of a run or of a model beside its reference."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.library.models import AnyModel, as_named
from penchant.library.rows import Data, as_file
from penchant.library.settings import overrides_of
from penchant.library.train import Trained
from penchant.workflow.eval_models import eval_models
from penchant.workflow.reporter import Reporter
from penchant.workflow.suites.chosen import Wanted, check_wanted


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: By the keys of `eval/summary.json` (docs/run-directory.md), such as `reward_accuracy`; beside it
            `reward_accuracy_interval`, low and high at 95 %.
        comparison: The table of `penchant eval`: every line's figure for reference and policy, with its interval
            and the test of their difference.
        run: The run directory that it was written to as well, if there is one.
    """

    figures: dict[str, Any]
    comparison: dict[str, Any]
    run: Path | None

    def _repr_html_(self) -> str:
        """What a notebook shows: every line with its interval and the test of the difference."""
        from penchant.reporting.notebook import evaluation_html  # not above: it loads what draws charts

        return evaluation_html(self.comparison, self.run)


def evaluate(
    model: AnyModel | Trained,
    data: Data,
    *,
    reference: AnyModel | None = None,
    tokenizer: Any = None,
    suites: Sequence[str] = ("pairs",),
    config: Mapping[str, Any] | None = None,
    limit: int | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Return how a model does on held-out pairs beside the model it started from, as `penchant eval` does.

    Args:
        model: What `train` returned, or a run directory: its figures are written there too, and its report is made
            anew. Or a model by name, or in memory.
        data: Held-out pairs: a file, a folder with a `test` split, or rows.
        reference: What it is compared with; of a run by default its start, of any other model it must be given.
        tokenizer: Of models in memory, one for both.
        suites: Of `penchant eval --suite`; those that need nothing but pairs: "pairs" and "prose".
        config: Sections of changes to the configuration: {"engine": {"device": "cpu"}}.
        limit: Only the first rows.
        reporter: Hears notes and progress; by default nobody does.

    Raises:
        DataError: The rows cannot be read as pairs.
        UsageError: There is no reference, or no such suite.
    """
    with contextlib.ExitStack() as places:
        path = places.enter_context(as_file(data))
        name = _name(model, tokenizer, "policy", places)
        theirs = None if reference is None else _name(reference, tokenizer, "reference", places)
        wanted = Wanted(data=path, limit=limit)
        check_wanted(wanted, suites)
        found, comparison, run = eval_models(
            [name], wanted, suites, reference=theirs, overrides=overrides_of(config), reporter=reporter
        )
    return Evaluation(found, comparison, run)


def _name(model: AnyModel | Trained, tokenizer: Any, role: str, places: contextlib.ExitStack) -> str:
    if isinstance(model, Trained):
        return str(model.run)
    return places.enter_context(as_named(model, None if isinstance(model, str | Path) else tokenizer, role))
