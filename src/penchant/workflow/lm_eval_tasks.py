"""Tasks of EleutherAI's lm-evaluation-harness, on a model that is loaded already (extra `eval`).

The harness brings its prompts, data (from the Hub, unless a task says otherwise) and metrics. What it counts is
taken row by row, so that models are compared in pairs as everywhere here.
"""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.errors import DataError, UsageError, did_you_mean
from penchant.models.load import LoadedModel
from penchant.offline import hub_is_offline, hub_remedy
from penchant.processes import world_size

TaskRows = dict[str, dict[str, Any]]
"""By "task metric": `values` (a number for each row, by its place) and `higher` (whether more is better)."""


def require_lm_eval() -> None:
    """Check that the harness is installed, and that this is the only process.

    Raises:
        UsageError: It is not.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError(
            "lm-eval is not installed", where="--lm-eval", fix='Install the extra: pip install "penchant[eval]".'
        )
    if world_size() > 1:
        raise UsageError(
            "lm-eval's tasks are the work of one process", where="--lm-eval", fix="Leave torchrun out."
        )


def check_tasks(tasks: Sequence[str], folder: Path | None = None) -> None:
    """Check the names of tasks against those that the harness knows.

    Args:
        tasks: Names of tasks or groups.
        folder: Holds further tasks as YAML files.

    Raises:
        UsageError: There is no task of a name.
    """
    known = _manager(folder).all_tasks
    for task in tasks:
        if task not in known:
            near = did_you_mean(task, known)
            hint = near if near.startswith(" Did") else ""
            raise UsageError(f'lm-eval knows no task "{task}".{hint}', where="--lm-eval")


def run_tasks(
    loaded: LoadedModel, tasks: Sequence[str], *, limit: int | None, batch_rows: int, folder: Path | None = None
) -> TaskRows:
    """Return what the harness counts on every row of every task, as far as it is a number a row.

    A model with a chat template is asked in it, by the harness's own rules.

    Args:
        loaded: The model.
        tasks: Names of tasks or groups.
        limit: Only the first rows of each task.
        batch_rows: Rows at a time.
        folder: Holds further tasks as YAML files.

    Raises:
        DataError: The data of a task is neither here nor can it be fetched.
    """
    if hub_is_offline():
        os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")  # the metrics' library has a setting of its own
    from lm_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    tokenizer = copy.deepcopy(loaded.tokenizer)  # the harness changes how it pads
    model = HFLM(pretrained=loaded.model, tokenizer=tokenizer, batch_size=batch_rows)
    try:
        found = simple_evaluate(
            model=model,
            tasks=list(tasks),
            limit=limit,
            log_samples=True,
            bootstrap_iters=0,
            apply_chat_template=loaded.chat.has_template,
            task_manager=_manager(folder),
        )
    except OSError as error:  # so its readers of data say what they cannot get
        first_line = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise DataError(
            f"the data of a task cannot be had ({first_line})",
            where="--lm-eval",
            fix=hub_remedy("Fetch it where there is a network, or unset it.", "Check the connection to the Hub."),
        ) from error
    return rows_of(found)


def rows_of(found: dict[str, Any]) -> TaskRows:
    """Return the rows of the harness's results; metrics that are no number a row are left out."""
    rows: TaskRows = {}
    for task, samples in found["samples"].items():
        higher = found.get("higher_is_better", {}).get(task, {})
        for sample in samples:
            for metric in sample["metrics"]:
                value = sample.get(metric)
                if not isinstance(value, bool | int | float):
                    continue
                filtered = "" if sample["filter"] == "none" else f" ({sample['filter']})"
                entry = rows.setdefault(
                    f"{task} {metric}{filtered}", {"values": {}, "higher": higher.get(metric, True)}
                )
                entry["values"][str(sample["doc_id"])] = float(value)
    return rows


def _manager(folder: Path | None) -> Any:
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    return TaskManager(include_path=None if folder is None else str(folder))
