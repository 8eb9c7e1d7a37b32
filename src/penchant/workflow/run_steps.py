"""The steps of a run, with all that accompanies them: logs, checkpoints, validation, a stop on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.errors import Stopped, UsageError
from penchant.objective.moving_reference import MovingReference
from penchant.objective.pair_model import PairModel
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
from penchant.workflow.stopping import Stopper
from penchant.workflow.watch import Watch, read_lines


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
        trainer.moving.load_state(load_reference(checkpoint))
    trainer.note(f"Resumed after step {trainer.start_step} ({checkpoint})")


def moving_reference(config: Config, model: PairModel) -> MovingReference | None:
    """Return the reference that moves, as the policy is now; None when it stays."""
    asked = config.objective
    if asked.reference_every is None:
        return None
    return MovingReference(
        model, share=asked.reference_share, every=asked.reference_every, ld_alpha=asked.ld_alpha
    )


def run_steps(
    trainer: Trainer,
    validator: Validator | None,
    watch: Watch,
    out: Path,
    identity: dict[str, Any],
    reporter: Reporter,
    stopper: Stopper,
) -> tuple[list[dict[str, float]], float]:
    """Do the steps that are left; return the metrics of all steps, and the seconds they took."""
    log = MetricsLog(out / "metrics.jsonl", keep_steps=trainer.start_step)
    watch.start(trainer.start_step)
    trainer.on_pairs = watch.on_pairs
    lines: list[dict[str, float]] = []
    every = trainer.config.train.checkpoint_every
    with reporter.progress("Training", trainer.total_steps) as advance:
        if trainer.start_step:
            advance(trainer.start_step)

        def done(step: int, metrics: dict[str, float]) -> bool:
            log.append(metrics)
            lines.append(metrics)
            advance(1, **metrics)
            ends = validator is not None and validator.after_step(step)
            ends = watch.after_step(step, metrics) or ends
            stopping = stopper.requested and step < trainer.total_steps and not ends
            if stopping or (every and step % every == 0):
                flush_logs(out)
                save_checkpoint(
                    out / "checkpoints",
                    step,
                    trainer.model.model,
                    trainer.optimizer,
                    identity,
                    validation=validator.state() if validator else None,
                    reference=trainer.moving.state() if trainer.moving else None,
                )
            if stopping:
                raise Stopped(
                    f"stopped after step {step} of {trainer.total_steps}; everything is saved",
                    where=str(out),
                    fix="Go on with the same command and --resume.",
                )

            return ends

        if validator is None or not validator.exhausted:
            train(trainer, done)
    if not lines and finished(out):
        raise UsageError("the run is already finished", where=str(out))
    if trainer.start_step:
        lines = [dict(line) for line in read_lines(log.path)]
    return lines, sum(line["seconds"] for line in lines)


def validator_of(trainer: Trainer, held_out: HeldOut, checkpoint: Path | None, out: Path) -> Validator | None:
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
        start_step=trainer.start_step,
        state=validation_state(checkpoint) if checkpoint else None,
    )
