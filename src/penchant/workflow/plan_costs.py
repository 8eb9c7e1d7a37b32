"""From a run's work and the costs of a unit of it to memory, seconds and disk."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.models.bundled import cache_directory
from penchant.models.sizes import ModelSizes, linear_widths
from penchant.objective.loss_table import needs_reference
from penchant.training.cost import (
    FP32,
    Line,
    Shape,
    UnitCosts,
    forward_seconds,
    gradient_seconds,
    loading_bytes,
    other_model_seconds,
    scoring_bytes,
    step_parts,
    trunk_seconds,
)
from penchant.workflow.plan_work import Work

# Tuned on four configurations, none of them among those that the coverage is measured on; see docs/planning.md. A
# run's steps take longer than the probe's: gradients of micro-batches are added up, caches are colder, and the
# probe takes the best of some steps. The allocator holds more than what is alive.
_RUN_OVER_PROBE = 1.3
_ALLOCATOR_SHARE = 0.1
_PROBE_BYTES = 32 << 20
_KEPT_CHECKPOINTS = 3  # two, and one that is being written
_BEST_WEIGHTS = 4  # those that two checkpoints count on, the newest, and the next
_LIBRARIES = 500 << 20  # what libraries and their buffers came to wherever it was measured, within a tenth
_STORES_SHARE = 2  # of the free disk the trunk's store takes at most one half


def unmeasured_costs(source: Any) -> UnitCosts:
    """Return costs of a model of which not even a few layers fit here: memory by formula, no time.

    Args:
        source: transformers' configuration of the model.
    """
    layer, unknown = Line(0.0, FP32 * linear_widths(source)), Line(math.nan, math.nan)
    return UnitCosts(
        layer_forward=math.nan,
        layer_step=math.nan,
        rest_forward=unknown,
        rest_step=unknown,
        head_forward=math.nan,
        head_step=math.nan,
        update=math.nan,
        layer_saved=layer,
        rest_saved=layer,  # the last layer; pruned it keeps less
        working=Line(_LIBRARIES, layer.each),
        spread=0.0,
    )


@dataclass(frozen=True)
class Kept:
    """Outputs of the frozen layers that a run keeps: bytes on disk, bytes in memory, and their share of all."""

    disk: float
    memory: float
    share: float


@dataclass(frozen=True)
class Rates:
    """Bytes a second that are written to a disk, and that are hashed."""

    disk: float
    hashed: float

    def both(self, size: float) -> float:
        """Return the seconds that writing or reading so many bytes takes together with hashing them."""
        return size * (1 / self.disk + 1 / self.hashed)


def trunk_kept(config: Config, work: Work, shape: Shape, device: str) -> Kept:
    """Return how much of the frozen layers' outputs, of training and held-out pairs, a run will keep."""
    needed = FP32 * shape.sizes.width * work.tokens if shape.trunk else 0
    room = 0
    if device.startswith("cpu"):
        free = shutil.disk_usage(existing(cache_directory())).free // _STORES_SHARE
        room = min(config.engine.trunk_cache_disk_bytes, free)
    on_disk = min(needed, room)
    in_memory = min(needed - on_disk, config.engine.trunk_cache_bytes)
    return Kept(on_disk, in_memory, (on_disk + in_memory) / needed if needed else 0.0)


def memory_of(
    work: Work, shape: Shape, costs: UnitCosts, kept: Kept, other: ModelSizes | None
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the bytes at the peak of a step by name, and the peaks of everything that a run does, by name.

    Validation needs no more than a step: it is done between two, without gradients.

    Args:
        work: The run's passes.
        shape: How it is computed.
        costs: What a unit costs.
        kept: Outputs of the frozen layers.
        other: Sizes of a reference that is another model.
    """
    parts = step_parts(work.loads, shape, costs, accumulates=len(work.chunks) > work.epoch_steps)
    parts["trunk cache"] = kept.memory
    parts["held by the allocator"] = _ALLOCATOR_SHARE * sum(parts.values())
    sizes, libraries = shape.sizes, costs.working.fixed
    stages = {"loading": loading_bytes(sizes) + libraries, "a step": sum(parts.values())}
    if shape.four_bit:  # read matrix by matrix; to be saved, all of it becomes fp32 again
        stages |= {"loading": shape.weights + libraries, "saving": FP32 * sizes.total + libraries}
    if other is not None:
        stages["scoring the reference"] = scoring_bytes([*work.loads, *work.held_out], other, shape, costs)
    return parts, stages


@dataclass(frozen=True)
class Seconds:
    """How long the parts of a run take, in seconds.

    Attributes:
        step: An optimizer step, the first one not counted.
        once: What comes before: the frozen layers and the reference.
        validation: A validation.
    """

    step: float
    once: float
    validation: float


def seconds_of(
    config: Config, work: Work, shape: Shape, costs: UnitCosts, kept: Kept, other: ModelSizes | None
) -> Seconds:
    """Return how long the parts of a run take; the arguments are those of `memory_of`."""
    every = [*work.loads, *work.held_out]
    frozen = sum(trunk_seconds(load, shape, costs) for load in work.loads)
    forward = sum(forward_seconds(load, shape, costs) for load in work.loads)
    gradients = sum(gradient_seconds(load, shape, costs) for load in work.loads)
    again = 1 - kept.share if shape.trunk else 1.0  # of the frozen layers' work, in every pass
    passes = gradients + work.passes * forward + (1 + work.passes) * again * frozen
    step = passes / work.epoch_steps + costs.update * shape.sizes.trained
    all_frozen = sum(trunk_seconds(load, shape, costs) for load in every)
    once = kept.share * all_frozen
    if other is not None:
        once += sum(other_model_seconds(load, other, shape, costs) for load in every)
    elif needs_reference(config.objective):
        once = all_frozen + sum(forward_seconds(load, shape, costs) for load in every)
    validation = work.validation_passes * sum(
        forward_seconds(load, shape, costs) + again * trunk_seconds(load, shape, costs) for load in work.held_out
    )
    return Seconds(_RUN_OVER_PROBE * step, _RUN_OVER_PROBE * once, _RUN_OVER_PROBE * validation)


def file_seconds(config: Config, work: Work, shape: Shape, rates: Rates, other: ModelSizes | None) -> float:
    """Return the seconds of hashing and writing weights and checkpoints; of reading two more with `other`."""
    trained, total = FP32 * shape.sizes.trained, FP32 * shape.sizes.total
    seconds = rates.both(total)
    if config.train.checkpoint_every:
        seconds += work.steps // config.train.checkpoint_every * rates.both(shape.checkpoint)
    if config.train.keep_best is not None:  # at worst every one is the best
        seconds += work.validations * rates.both(trained)
    if other is not None:  # the policy is read again after it
        seconds += rates.both(FP32 * other.total) + total / rates.disk
    return seconds


def disk_of(config: Config, work: Work, shape: Shape, kept: Kept) -> dict[str, float]:
    """Return the bytes on disk by name."""
    sizes = shape.sizes
    needed: dict[str, float] = {"model": FP32 * sizes.total, "outputs of frozen layers (cache)": kept.disk}
    if config.train.checkpoint_every and config.train.checkpoint_every <= work.steps:
        needed["checkpoints"] = _KEPT_CHECKPOINTS * shape.checkpoint
    if config.train.keep_best is not None:
        needed["best weights"] = _BEST_WEIGHTS * FP32 * sizes.trained
    if config.model.lora_rank is not None:
        needed["adapter"] = FP32 * sizes.trained
    return needed


def measured_rates(folder: Path) -> Rates:
    """Return how fast a folder's disk is written, and how fast bytes are hashed here."""
    block = os.urandom(_PROBE_BYTES)
    started = time.perf_counter()
    hashlib.sha256(block).digest()
    hashed = time.perf_counter()
    with tempfile.TemporaryFile(dir=existing(folder)) as file:
        file.write(block)
        file.flush()
    return Rates(len(block) / (time.perf_counter() - hashed), len(block) / (hashed - started))


def existing(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
