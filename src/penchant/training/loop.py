"""The training loop. Read `train` first: gradients, update, and what the step before came to."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import Tensor

from penchant.batching.prefetch import prefetched
from penchant.errors import NotFiniteError
from penchant.objective.metrics import StepSums
from penchant.processes import world_size
from penchant.training.gates import SameWeightsGuard, check_first_loss
from penchant.training.optimizer import clipping_scale
from penchant.training.parallel import gradient_norm
from penchant.training.schedule import epochs_after, learning_rate
from penchant.training.step import Prepared, Trainer, prepare, step_gradients
from penchant.training.telemetry import peak_memory_bytes


def train(trainer: Trainer, on_step: Callable[[int, dict[str, float]], bool | None]) -> None:
    """Run all steps that are left; `on_step(steps_done, metrics)` is called after each, before the next update.

    When it returns True, that step was the last one. What is raised between two micro-batches of a step, by
    `trainer.check_stop` or by a fault, gets through after `on_step` has been told of the step before, with
    `trainer.interrupted` set: the weights are those after that one.

    Raises:
        ModelError: The first loss is not what policy == reference must give, or they stay one.
        NotFiniteError: A loss or gradient is not finite; the weights are those of the step before.
    """
    pending: _Update | None = None
    guard = SameWeightsGuard(trainer)
    steps = range(trainer.start_step, trainer.total_steps)
    with contextlib.closing(prefetched(partial(prepare, trainer), steps)) as ahead:
        started = time.perf_counter()
        for prepared in ahead:  # the next step is read and packed while this one is computed
            try:
                sums = step_gradients(trainer, prepared)
            except Exception:
                if world_size() > 1:  # the others wait elsewhere, so nothing can be agreed on any more
                    raise
                trainer.optimizer.zero_grad(set_to_none=True)
                trainer.interrupted = True
                if pending is not None and on_step(pending.step + 1, _read(trainer, pending, guard)):
                    return
                raise
            seconds = time.perf_counter() - started
            if pending is not None:  # by now the device has done it, and is busy with the gradients of this one
                if on_step(pending.step + 1, _read(trainer, pending, guard)):
                    trainer.optimizer.zero_grad(set_to_none=True)  # those of a step that will not be taken
                    return
            if prepared.step == 0:
                check_first_loss(trainer, prepared, sums)
            pending = _update(trainer, prepared, sums, seconds)
            if trainer.moving is not None:
                trainer.moving.after_step(prepared.step + 1)
            started = time.perf_counter()
    if pending is not None:
        on_step(pending.step + 1, _read(trainer, pending, guard))


@dataclass
class _Update:
    """An update that was asked for; whether it was refused stands on the device."""

    step: int
    order: list[int]  # its pairs
    sums: StepSums
    rate: float
    grad_norm: Tensor
    refused: Tensor
    seconds: float


def _update(trainer: Trainer, prepared: Prepared, sums: StepSums, seconds: float) -> _Update:
    """Clip and update, or refuse both where something is not finite: decided on the device, not waited for."""
    started, optimizer = time.perf_counter(), cast(Any, trainer.optimizer)
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grad_norm = gradient_norm(gradients)
    refused = (~(grad_norm + sums.loss).isfinite()).float()
    # the optimizer divides by one and obeys the other, as torch's GradScaler has its fused kernels do
    optimizer.grad_scale = clipping_scale(grad_norm, trainer.config.train.clip_norm)
    optimizer.found_inf = refused
    rate = learning_rate(trainer.config.train, prepared.step, trainer.total_steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds += time.perf_counter() - started
    return _Update(prepared.step, prepared.whole_order, sums, rate, grad_norm, refused, seconds)


def _read(trainer: Trainer, update: _Update, guard: SameWeightsGuard) -> dict[str, float]:
    means, grad_norm, step = update.sums.means(), float(update.grad_norm), update.step + 1
    own = update.sums.pair_figures()
    if bool(update.refused):
        losses = zip(update.order, own["loss"], strict=True)
        guilty = [trainer.pairs[index].id for index, loss in losses if not math.isfinite(loss)]
        raise NotFiniteError(
            f"step {step}: the loss is {means['loss']}, the gradient norm {grad_norm}; {_named(guilty)}",
            fix="The weights are those of the step before, and the last checkpoint is untouched. Look at the "
            "pairs, lower train.learning_rate, or try --set engine.precision=fp32.",
            pairs=guilty,
        )
    guard.hear(step, largest_reward=update.sums.largest_reward(), rate=update.rate, grad_norm=grad_norm)
    trainer.on_pairs(step, update.order, own)
    return {
        "step": step,
        "epoch": epochs_after(trainer.config.train, step, len(trainer.pairs)),
        **means,
        "grad_norm": grad_norm,
        "learning_rate": update.rate,
        "pairs": update.sums.pairs,
        "tokens": update.sums.tokens,
        "seconds": update.seconds,
        "peak_memory_bytes": peak_memory_bytes(trainer.model.device),
    }


def _named(guilty: list[str]) -> str:
    """Which pairs have a loss that is not finite, in words."""
    if not guilty:
        return "every pair's own loss is finite"
    names = ", ".join(guilty[:5])
    return f"not finite: {names}" + (f" and {len(guilty) - 5} more pairs" if len(guilty) > 5 else "")
