"""The steps of a run, with all that accompanies them: logs, checkpoints, validation, a stop on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.errors import DiskError, Stopped, UsageError
from penchant.objective.moving_reference import MovingReference
from penchant.objective.pair_model import PairModel
from penchant.processes import any_of, is_first, wait_for_all, world_size
from penchant.training.checkpoint import (
    load_checkpoint,
    load_reference,
    save_checkpoint,
    validation_state,
)
from penchant.training.loop import train
from penchant.training.step import Trainer
from penchant.training.telemetry import MetricsLog, flush_logs
from penchant.training.validation import HeldOut, Validator
from penchant.workflow.reporter import Reporter
from penchant.workflow.run_directory import finished
from penchant.workflow.status import RunStatus
from penchant.workflow.stopping import Stopper
from penchant.workflow.watch import Watch, read_lines

# A disk that others fill may have room again in an hour, and training needs none of it: a checkpoint that comes by
# the clock may fail. But what is not saved is lost with the process, so the third in a row ends the run.
_FAILED_CHECKPOINTS = 3


def resume_from(trainer: Trainer, checkpoint: Path) -> None:
    """Put everything back to where the checkpoint left it; `penchant.workflow.resuming` has checked that it may.

    Raises:
        UsageError: The run was cut to fewer steps than were taken.
    """
    trainer.start_step = load_checkpoint(checkpoint, trainer.model.model, trainer.optimizer)
    if trainer.start_step > trainer.total_steps:
        raise UsageError(
            f"{trainer.start_step} steps are taken already, and the run is to have {trainer.total_steps}",
            where=str(checkpoint),
            fix="Raise train.epochs or train.max_steps.",
        )
    if trainer.moving is not None:
        load_reference(checkpoint, trainer.moving.state())
    trainer.note(f"Resumed after step {trainer.start_step} ({checkpoint})")


def moving_reference(config: Config, model: PairModel) -> MovingReference | None:
    """Return the reference that moves, as the policy is now; None when it stays."""
    asked = config.objective
    if asked.reference_every is None:
        return None
    return MovingReference(
        model, share=asked.reference_share, every=asked.reference_every, ld_alpha=asked.ld_alpha
    )


class _Checkpoints:
    """Writes the checkpoints of a run."""

    def __init__(
        self,
        trainer: Trainer,
        validator: Validator | None,
        out: Path,
        identity: dict[str, Any],
        reporter: Reporter,
        status: RunStatus,
    ) -> None:
        self._trainer, self._validator, self._out, self._identity = trainer, validator, out, identity
        self._reporter, self._status = reporter, status
        self._failed = 0

    def write(self, step: int) -> None:
        """Write the one of this step, or raise DiskError."""
        trainer, validator = self._trainer, self._validator
        if is_first():
            flush_logs(self._out)
        save_checkpoint(
            self._out / "checkpoints",
            step,
            trainer.model.model,
            trainer.optimizer,
            self._identity,
            validation=validator.state() if validator else None,
            reference=trainer.moving.state() if trainer.moving else None,
        )
        self._failed = 0
        self._status.after_step(step, trainer.total_steps)

    def try_to_write(self, step: int) -> None:
        """Write the one of this step; that a disk is full is told, until it was so too often in a row."""
        try:
            self.write(step)
        except DiskError as error:
            self._failed += 1
            if self._failed == _FAILED_CHECKPOINTS:
                raise
            self._reporter.warn(
                f"step {step}: no checkpoint, {error.what} ({error.where}). Training goes on, older checkpoints "
                f"are as they were; {_FAILED_CHECKPOINTS} failures in a row end the run."
            )


def run_steps(
    trainer: Trainer,
    validator: Validator | None,
    watch: Watch,
    out: Path,
    identity: dict[str, Any],
    reporter: Reporter,
    stopper: Stopper,
    status: RunStatus,
) -> tuple[list[dict[str, float]], float]:
    """Do the steps that are left; return the metrics of all steps, and the seconds they took."""
    log = MetricsLog(out / "metrics.jsonl", keep_steps=trainer.start_step)
    watch.start(trainer.start_step)
    if is_first():
        reporter.begin_steps(out)
    trainer.on_pairs, trainer.check_stop = watch.on_pairs, between_passes(stopper)
    lines = [dict(line) for line in read_lines(log.path)]
    before = len(lines)
    checkpoints = _Checkpoints(trainer, validator, out, identity, reporter, status)
    status.after_step(trainer.start_step, trainer.total_steps)
    every = trainer.config.train.checkpoint_every

    def judged(step: int, metrics: dict[str, float]) -> bool:
        ends = validator is not None and validator.after_step(step)
        return watch.after_step(step, metrics) or ends

    with reporter.progress("Training", trainer.total_steps) as advance:
        if trainer.start_step:
            advance(trainer.start_step, before=True)

        def done(step: int, metrics: dict[str, float]) -> bool:
            log.append(metrics)
            lines.append(metrics)
            advance(1, **metrics)
            ends = cut_short = False
            try:
                ends = judged(step, metrics)
            except Stopped:  # a resume begins with judging this step
                cut_short = True
            stopping = cut_short or (any_of(stopper.asked()) and step < trainer.total_steps and not ends)
            if stopping:
                checkpoints.write(step)
                wait_for_all()  # torchrun ends everyone soon after the first has ended
                where = f"stopped after step {step} of {trainer.total_steps}; everything is saved"
                raise stopper.stopped(where, where=str(out))
            if trainer.interrupted or (every and step % every == 0):
                checkpoints.try_to_write(step)
            return ends

        over = validator is not None and validator.exhausted
        over = over or bool(before and judged(trainer.start_step, lines[-1]))
        if not over:
            train(trainer, done)
    if len(lines) == before and finished(out):
        raise UsageError("the run is already finished", where=str(out))
    return lines, sum(line["seconds"] for line in lines)


def validator_of(
    trainer: Trainer, held_out: HeldOut, checkpoint: Path | None, out: Path, stopper: Stopper
) -> Validator | None:
    """What validates as configured, as far as it had come at the checkpoint; None without held-out pairs."""
    if not held_out.chunks:
        (out / "validation.jsonl").unlink(missing_ok=True)  # of a run that came to nothing here
        return None
    return Validator(
        trainer.config,
        trainer.model,
        held_out,
        out,
        total_steps=trainer.total_steps,
        note=trainer.note,
        state=validation_state(checkpoint) if checkpoint else None,
        check_stop=between_passes(stopper),
    )


def between_passes(stopper: Stopper) -> Callable[[], None]:
    """Return what may end a run between two passes: several processes stop between two steps only, together."""
    return stopper.check if world_size() == 1 else lambda: None
