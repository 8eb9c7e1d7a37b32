"""`penchant align`: the stages of a recipe one after the other, each from the model of the one before.

    RUN/1-sft  RUN/2-dpo      each a whole run directory with a report of its own

Whatever can be refused is refused before the first stage begins. A stage that came to its end is not done again:
it is passed over if configuration and data are those that it was done with, and otherwise the command ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import Config, build_config
from penchant.errors import UsageError
from penchant.models.memory import release_memory
from penchant.processes import is_first
from penchant.recipes.stages import Stage
from penchant.reporting.report import write_report
from penchant.strict_yaml import read_yaml
from penchant.tokens.chat import ChatFormat
from penchant.training.parallel import ONE_COPY_EACH, ParallelMode
from penchant.workflow.inspect import load_chat
from penchant.workflow.reporter import Reporter
from penchant.workflow.run_directory import finished
from penchant.workflow.setup import fingerprint, require_chat_format
from penchant.workflow.sft import training_pairs
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import TrainResult, train_run, training_tokens


@dataclass(frozen=True)
class StageResult:
    """What became of a stage.

    Attributes:
        name: Of the stage.
        run: Its run directory.
        result: What its training came to; None when it had been finished before.
    """

    name: str
    run: Path
    result: TrainResult | None


@dataclass(frozen=True)
class StagePart:
    """A stage with the place of its run.

    Attributes:
        name: Of the stage.
        config: Of its run; `model.path` is the model of the stage before.
        data: What it trains on.
        run: Its run directory.
    """

    name: str
    config: Config
    data: Path
    run: Path


def align_run(
    stages: Sequence[Stage],
    data: Path,
    out: Path,
    *,
    sft_data: Path | None = None,
    resume: bool = False,
    limit: int | None = None,
    parallel: ParallelMode = ONE_COPY_EACH,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> list[StageResult]:
    """Train stage after stage and write each one's run directory below `out`.

    Args:
        stages: From `penchant.recipes.stages.load_stages`.
        data: Preference pairs, for every stage.
        out: Where the stages' run directories go.
        sft_data: Examples for the stages of the loss sft, in place of the chosen responses of `data`.
        resume: Pass over finished stages, and go on with the one that was interrupted.
        limit: Only the first rows of each data set.
        parallel: How several processes share the model.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        PenchantError: See `penchant.workflow.train.train_run`; and when a finished stage was done with another
            configuration or other data.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    parts = stage_parts(stages, data, sft_data, out)
    chat = load_chat(parts[0].config.model.path)
    _check(parts, chat, resume=resume, limit=limit)
    results: list[StageResult] = []
    for number, part in enumerate(parts, start=1):
        stopper.check()
        where = f"Stage {number} of {len(parts)}, {part.name}"
        if finished(part.run):
            _check_same(part, chat, limit)
            reporter.note(f"{where}: finished before ({part.run})")
            results.append(StageResult(part.name, part.run, None))
        else:
            _refuse_later(parts[number:], part)
            reporter.note(f"{where}: {part.config.objective.loss} from {part.config.model.path}")
            result = train_run(
                part.config,
                part.data,
                part.run,
                resume=resume,
                limit=limit,
                parallel=parallel,
                reporter=reporter,
                stopper=stopper,
            )
            results.append(StageResult(part.name, part.run, result))
            release_memory()
        if is_first() and (results[-1].result or not (part.run / "report.html").is_file()):
            write_report(part.run)
    return results


def stage_parts(stages: Sequence[Stage], data: Path, sft_data: Path | None, out: Path) -> list[StagePart]:
    """Return each stage with its place, its data and the path of its start.

    Args:
        stages: From `penchant.recipes.stages.load_stages`.
        data: Preference pairs.
        sft_data: Examples for the stages of the loss sft, in place of the chosen responses of `data`.
        out: Where the stages' run directories go.

    Raises:
        UsageError: There is `sft_data` and no stage for it.
    """
    imitates = [stage.config.objective.loss == "sft" for stage in stages]
    if sft_data is not None and not any(imitates):
        raise UsageError("--sft-data is not used: no stage of the recipe has the loss sft")
    parts: list[StagePart] = []
    for number, (stage, imitating) in enumerate(zip(stages, imitates, strict=True), start=1):
        config = stage.config
        if parts:  # absolute, so that the same command resumes from any folder
            path = str((parts[-1].run / "model").resolve())
            start = config.model.model_copy(update={"path": path, "architecture": None, "reference": None})
            config = config.model_copy(update={"model": start})
        source = sft_data if imitating and sft_data is not None else data
        parts.append(StagePart(stage.name, config, source, out / f"{number}-{stage.name}"))
    return parts


def _check(parts: Sequence[StagePart], chat: ChatFormat, *, resume: bool, limit: int | None) -> None:
    """Find what would end a later stage before hours are spent on the first."""
    for part in parts:
        if not resume and (part.run / "metrics.jsonl").exists():
            raise UsageError(
                "there is a run here already", where=str(part.run), fix="Give --resume, or choose another --out."
            )
    for number, part in enumerate(parts):
        require_chat_format(chat, part.config)
        if number:  # the first stage reads its own at once
            training_pairs(part.config, part.data, limit=limit)


def _check_same(part: StagePart, chat: ChatFormat, limit: int | None) -> None:
    """Refuse to pass over a stage that was done otherwise than it would be done now."""
    saved = read_yaml(part.run / "config.yaml")
    facts = saved.pop("run", {})
    before = build_config(saved, where=str(part.run / "config.yaml")).resolved()
    changed = list(_changes(before, part.config.resolved()))
    pairs, ledger = training_pairs(part.config, part.data, limit=limit)
    if fingerprint(training_tokens(part.config, pairs, ledger, chat)) != facts.get("data_fingerprint"):
        changed.append("the data")
    if changed:
        raise UsageError(
            f"this stage was done with something else: {', '.join(changed)}",
            where=str(part.run),
            fix="Go on with what it was done with, or choose another --out.",
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{section}.{key}"
        for section, values in now.items()
        for key in sorted({*values, *before.get(section, {})})
        if before.get(section, {}).get(key) != values.get(key)
    ]


def _refuse_later(later: Sequence[StagePart], part: StagePart) -> None:
    for other in later:
        if (other.run / "metrics.jsonl").exists():
            raise UsageError(
                f"this stage was begun before {part.run.name} was finished as it is now, so from another model",
                where=str(other.run),
                fix="Remove it, or choose another --out.",
            )
