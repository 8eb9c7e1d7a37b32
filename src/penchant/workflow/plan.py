"""`penchant plan`: memory, seconds a step and total time of a run before anything is loaded in full.

Sizes come from the meta device, the micro-batches are those that training will form, and unit costs come from some
steps of models with few layers (`penchant.workflow.probe`). Weights are not read.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from penchant.batching.packing import first_epoch_chunks
from penchant.batching.pair_batch import pair_group
from penchant.config import Config
from penchant.models.activation_memory import free_bytes, resident_bytes
from penchant.models.bundled import cache_directory
from penchant.models.capability import no_prefix_sharing_reason
from penchant.models.freeze import configured_choice
from penchant.models.load import architecture_for, resolve_model
from penchant.models.precision import choose_device
from penchant.models.sizes import ModelSizes, model_sizes, random_model, read_model_config
from penchant.objective.head import Head
from penchant.objective.loss_table import needs_reference
from penchant.training.cost import (
    FP32,
    MOMENTS,
    Load,
    Shape,
    UnitCosts,
    forward_seconds,
    gradient_seconds,
    micro_batch_load,
    step_parts,
    trunk_seconds,
)
from penchant.training.schedule import total_steps
from penchant.types import TokenizedPair
from penchant.workflow.grading import Estimate, write_prediction
from penchant.workflow.inspect import load_chat
from penchant.workflow.probe import probe
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import describe_machine, set_threads
from penchant.workflow.sft import training_pairs
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import training_tokens

LEVEL = 0.9  # of the intervals
_NORMAL = 1.645  # standard deviations to either side that hold 90 % of a normal distribution
# Tuned on four configurations, none of them among those that the coverage is measured on; see docs/planning.md. A
# run's steps take longer than the probe's: gradients of micro-batches are added up, caches are colder, and the
# probe takes the best of some steps. The allocator holds more than what is alive.
_RUN_OVER_PROBE = 1.3
_ALLOCATOR_SHARE = 0.1
# What the method itself is off by, relative: about 2.35 (Student's t, 3 degrees, 90 %) standard deviations there.
_MEMORY_ERROR = 0.3
_STEP_ERROR = 0.5
_TOTAL_ERROR = 0.6
_ASSUMED_PAIRS = 1000
_PROBE_BYTES = 32 << 20
_KEPT_CHECKPOINTS = 3  # two, and one that is being written
_STORES_SHARE = 2  # of the free disk the trunk's store takes at most one half


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        memory: Peak memory, bytes: of the process on a CPU, of the accelerator elsewhere.
        step: Seconds a step, the first one not counted.
        total: Seconds of `penchant train` from reading the rows to the saved model, without starting Python.
        parts: Bytes at the peak of a step, by name.
        stages: Peak bytes of loading and of a step; the larger one is the peak.
        available: Bytes that this machine has for it.
        disk: Bytes on disk, by name.
        disk_free: Free where the run directory will be.
        steps: Optimizer steps.
        pairs: Training pairs.
        micro_batches: In the first epoch.
        sizes: Of the model.
        costs: What the probe found.
        device: Where it will run.
        machine: In words.
        notes: What was assumed, and what to do where it does not fit.
    """

    memory: Estimate
    step: Estimate
    total: Estimate
    parts: dict[str, float]
    stages: dict[str, float]
    available: int
    disk: dict[str, float]
    disk_free: int
    steps: int
    pairs: int
    micro_batches: int
    sizes: ModelSizes
    costs: UnitCosts
    device: str
    machine: str
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether even the upper end of the memory's interval is there."""
        return self.memory.high <= self.available

    def facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        plain = {
            name: getattr(self, name)
            for name in ("parts", "stages", "available", "disk", "disk_free", "steps", "pairs", "micro_batches")
        }
        return {
            **plain,
            "level": LEVEL,
            "fits": self.fits,
            "device": self.device,
            "machine": self.machine,
            "parameters": self.sizes.total,
            "trained_parameters": self.sizes.trained,
            "frozen_layers": self.sizes.frozen_layers,
            "notes": list(self.notes),
        }

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The three figures that a run can be graded by."""
        return {"memory_bytes": self.memory, "step_seconds": self.step, "total_seconds": self.total}


@dataclass(frozen=True)
class _Work:
    """The first epoch: its pairs, its micro-batches, and how much work each is."""

    pairs: Sequence[TokenizedPair]
    chunks: list[list[int]]
    loads: list[Load]
    steps: int
    epoch_steps: int

    @property
    def tokens(self) -> int:
        return sum(load.tokens for load in self.loads)

    @property
    def largest(self) -> list[TokenizedPair]:
        place = max(range(len(self.loads)), key=lambda at: self.loads[at].tokens)
        return [self.pairs[index] for index in self.chunks[place]]


def plan_run(
    config: Config,
    *,
    data: Path | None = None,
    out: Path | None = None,
    limit: int | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> Plan:
    """Predict what training as configured will need, and leave the prediction in `out`, if given, to be graded.

    Args:
        config: The whole configuration.
        data: The pairs; without them lengths are assumed to be `data.max_tokens`.
        out: What is to be the run directory.
        limit: Only the first rows of the data.
        reporter: Hears notes and progress.
        stopper: Asked now and then whether to stop.

    Raises:
        PenchantError: The model, its tokenizer or the data cannot be read.
    """
    started = time.perf_counter()
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    set_threads(config.engine)
    device = choose_device(config.engine.device)
    named = architecture_for(config.model, config.model.path) or config.model.path
    path = resolve_model(named)
    source = read_model_config(path)
    sizes = model_sizes(source, **configured_choice(config.model, config.train.seed))
    packed = config.engine.prefix_sharing and (
        no_prefix_sharing_reason(random_model(source, "meta"), config.data.max_tokens) is None
    )
    notes: list[str] = []
    if data is None:
        pairs: Sequence[TokenizedPair] = _assumed_pairs(config, sizes.vocabulary)
        what = "examples are assumed, each with a prompt and a response"
        if config.objective.loss != "sft":
            what = "pairs are assumed, each with a prompt and two responses"
        notes.append(
            f"No data was given: {len(pairs)} {what} of half of data.max_tokens ({config.data.max_tokens}). "
            "Give --data for the run's own lengths."
        )
    else:
        rows, ledger = training_pairs(config, data, limit=limit)
        pairs = training_tokens(config, rows, ledger, load_chat(named), reporter=reporter, stopper=stopper)
    if config.model.load_in_4bit:
        notes.append("Frozen weights are counted in fp32 here; in 4 bits they take about an eighth of that.")
    work = _work(config, pairs, packed=packed)
    reading = time.perf_counter() - started
    stopper.check()
    reporter.note("Measuring a few steps of a model with few layers")
    folder = out or (Path.cwd() if data is None else data.parent)
    disk_rate, hash_rate = _rates(folder)
    costs = probe(config, source, sizes, work.largest, device)
    shape = Shape(
        sizes,
        trunk=packed and config.engine.trunk_sharing and sizes.frozen_layers > 0,
        block_rows=Head(torch.empty(sizes.vocabulary, sizes.width, device="meta"), None, "fp32").block_rows
        if device.startswith("cpu")
        else max(1, (1 << 30) // (FP32 * sizes.vocabulary)),
    )
    kept = _trunk_kept(config, work, shape, device)
    parts, stages = _memory(work, shape, costs, kept["memory"])
    step, first = _seconds(config, work, shape, costs, kept["share"])
    disk = _disk(config, work, sizes, kept["disk"])
    ends = FP32 * sizes.total * (1 / hash_rate + 1 / disk_rate)
    checkpoints = work.steps // config.train.checkpoint_every if config.train.checkpoint_every else 0
    ends += checkpoints * (1 + MOMENTS) * FP32 * sizes.trained * (1 / disk_rate + 1 / hash_rate)
    spread = _NORMAL * costs.spread
    plan = Plan(
        memory=Estimate.within(max(stages.values()), _MEMORY_ERROR),
        step=Estimate.within(step, math.hypot(spread, _STEP_ERROR)),
        total=Estimate.within(reading + first + work.steps * step + ends, math.hypot(spread, _TOTAL_ERROR)),
        parts=parts,
        stages=stages,
        available=available_bytes(device),
        disk=disk,
        disk_free=shutil.disk_usage(_existing(folder)).free,
        steps=work.steps,
        pairs=len(pairs),
        micro_batches=len(work.chunks),
        sizes=sizes,
        costs=costs,
        device=device,
        machine=describe_machine(device),
        notes=(),
    )
    notes += _remedies(plan, config, packed=packed)
    plan = _with_notes(plan, notes)
    if out is not None:
        write_prediction(out, config, plan.estimates, plan.facts())
    return plan


def _with_notes(plan: Plan, notes: Sequence[str]) -> Plan:
    return Plan(**{**vars(plan), "notes": tuple(notes)})


def _assumed_pairs(config: Config, vocabulary: int) -> list[TokenizedPair]:
    """Pairs as long as the data allows: half prompt, half response."""
    steps = config.train.max_steps
    count = min(_ASSUMED_PAIRS, steps * config.train.batch_pairs) if steps else _ASSUMED_PAIRS
    half = config.data.max_tokens // 2

    def ids(seed: int) -> tuple[int, ...]:
        return tuple((seed * 7919 + place * 31) % vocabulary for place in range(half))

    imitated = config.objective.loss == "sft"
    return [
        TokenizedPair(f"assumed-{i}", ids(3 * i), ids(3 * i + 1), () if imitated else ids(3 * i + 2))
        for i in range(count)
    ]


def _work(config: Config, pairs: Sequence[TokenizedPair], *, packed: bool) -> _Work:
    groups = [pair_group(pair) for pair in pairs]
    steps = total_steps(config.train, len(pairs))
    chunks = first_epoch_chunks(
        [group.num_packed_tokens for group in groups],
        steps=steps,
        batch=config.train.batch_pairs,
        max_tokens=config.engine.micro_batch_tokens,
        seed=config.train.seed,
    )
    loads = [micro_batch_load([groups[index] for index in chunk], packed=packed) for chunk in chunks]
    return _Work(pairs, chunks, loads, steps, min(steps, math.ceil(len(pairs) / config.train.batch_pairs)))


def _trunk_kept(config: Config, work: _Work, shape: Shape, device: str) -> dict[str, float]:
    """Bytes of the frozen layers' outputs on disk and in memory, and the share of them that is kept."""
    needed = FP32 * shape.sizes.width * work.tokens if shape.trunk else 0
    room = 0
    if device.startswith("cpu"):
        free = shutil.disk_usage(_existing(cache_directory())).free // _STORES_SHARE
        room = min(config.engine.trunk_cache_disk_bytes, free)
    on_disk = min(needed, room)
    in_memory = min(needed - on_disk, config.engine.trunk_cache_bytes)
    return {"disk": on_disk, "memory": in_memory, "share": (on_disk + in_memory) / needed if needed else 0.0}


def _memory(
    work: _Work, shape: Shape, costs: UnitCosts, cached: float
) -> tuple[dict[str, float], dict[str, float]]:
    parts = step_parts(work.loads, shape, costs, accumulates=len(work.chunks) > work.epoch_steps)
    parts["trunk cache"] = cached
    parts["held by the allocator"] = _ALLOCATOR_SHARE * sum(parts.values())
    sizes = shape.sizes
    loading = FP32 * sizes.total + costs.working.fixed
    if sizes.stored_bytes != FP32:  # the file's pages and their fp32 copy exist together for a while
        loading += sizes.stored_bytes * (sizes.total - sizes.own_parameters)
    return parts, {"loading": loading, "a step": sum(parts.values())}


def _seconds(config: Config, work: _Work, shape: Shape, costs: UnitCosts, kept: float) -> tuple[float, float]:
    """Seconds a step, and what comes once before: the frozen layers and the reference."""
    frozen = sum(trunk_seconds(load, shape, costs) for load in work.loads)
    again = 1 - kept if shape.trunk else 1.0  # of the frozen layers' work, in every step
    gradients = sum(gradient_seconds(load, shape, costs) for load in work.loads)
    step = (gradients + again * frozen) / work.epoch_steps + costs.update * shape.sizes.trained
    first = kept * frozen
    if needs_reference(config.objective):
        first = frozen + sum(forward_seconds(load, shape, costs) for load in work.loads)
    return _RUN_OVER_PROBE * step, _RUN_OVER_PROBE * first


def _disk(config: Config, work: _Work, sizes: ModelSizes, trunk: float) -> dict[str, float]:
    needed: dict[str, float] = {"model": FP32 * sizes.total, "outputs of frozen layers (cache)": trunk}
    if config.train.checkpoint_every and config.train.checkpoint_every <= work.steps:
        needed["checkpoints"] = _KEPT_CHECKPOINTS * (1 + MOMENTS) * FP32 * sizes.trained
    if config.model.lora_rank is not None:
        needed["adapter"] = FP32 * sizes.trained
    return needed


def _remedies(plan: Plan, config: Config, *, packed: bool) -> list[str]:
    notes = []
    if not packed and config.engine.prefix_sharing:
        notes.append("Prompts cannot be shared between responses on this model; each response is computed alone.")
    if sum(plan.disk.values()) > plan.disk_free:
        notes.append("The disk is too full for it: free some space, or choose another --out.")
    if plan.fits:
        return notes
    half = max(config.data.max_tokens, config.engine.micro_batch_tokens // 2)
    if half < config.engine.micro_batch_tokens:
        notes.append(f"It may not fit. Smaller passes: --set engine.micro_batch_tokens={half}")
    if config.model.lora_rank is None:
        notes.append("It may not fit. Adapters instead of weights: --set model.lora_rank=16")
    if config.model.last_layers is None and config.model.lora_rank is None:
        notes.append(
            f"It may not fit. Upper layers only: --set model.last_layers={max(1, plan.sizes.layers // 6)}"
        )
    elif (config.model.last_layers or 0) > 1:
        notes.append(
            f"It may not fit. Fewer layers: --set model.last_layers={(config.model.last_layers or 2) // 2}"
        )
    if "activation_checkpointing" in type(config.engine).model_fields:
        notes.append("It may not fit. Compute activations twice: --set engine.activation_checkpointing=true")
    return notes


def _rates(folder: Path) -> tuple[float, float]:
    """Bytes a second that are written to a folder's disk, and that are hashed."""
    block = os.urandom(_PROBE_BYTES)
    started = time.perf_counter()
    hashlib.sha256(block).digest()
    hashed = time.perf_counter()
    with tempfile.TemporaryFile(dir=_existing(folder)) as file:
        file.write(block)
        file.flush()
    return len(block) / (time.perf_counter() - hashed), len(block) / (hashed - started)


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def available_bytes(device: str) -> int:
    """Return the memory that a run could have here: what is free, and on a CPU what this process has already."""
    free = free_bytes(torch.device(device))
    if free is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return free if device.startswith("cuda") else free + resident_bytes()
