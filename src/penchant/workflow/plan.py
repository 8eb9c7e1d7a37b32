"""`penchant plan`: memory, seconds a step and total time of a run before anything is loaded in full.

Sizes come from the meta device, the micro-batches are those that training will form, and unit costs come from some
steps of models with few layers (`penchant.workflow.probe`). Weights are not read.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from penchant.config import Config
from penchant.errors import UsageError
from penchant.models.activation_memory import free_bytes, resident_bytes
from penchant.models.capability import no_prefix_sharing_reason
from penchant.models.freeze import configured_choice
from penchant.models.precision import choose_device
from penchant.models.sizes import ModelSizes, model_sizes, random_model
from penchant.objective.head import Head
from penchant.training.cost import FP32, Shape, UnitCosts
from penchant.training.optimizer import check_optimizer
from penchant.workflow.grading import Estimate, write_prediction
from penchant.workflow.plan_costs import (
    disk_of,
    existing,
    file_seconds,
    measured_rates,
    memory_of,
    seconds_of,
    trunk_kept,
    unmeasured_costs,
)
from penchant.workflow.plan_start import Start, read_start
from penchant.workflow.plan_work import Examples, Work, read_examples_of, work_of
from penchant.workflow.probe import probe, probe_bytes
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import describe_machine, set_threads
from penchant.workflow.stopping import Stopper

LEVEL = 0.9  # of the intervals
_NORMAL = 1.645  # standard deviations to either side that hold 90 % of a normal distribution
# What the method itself is off by, relative: about 2.35 (Student's t, 3 degrees, 90 %) standard deviations there.
_MEMORY_ERROR = 0.3
_STEP_ERROR = 0.5
_TOTAL_ERROR = 0.6
_UNMEASURED_ERROR = 0.6  # of memory without a probe: twice as wide, for nobody has tried how good it is


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        memory: Peak memory, bytes: of the process on a CPU, of the accelerator elsewhere.
        step: Seconds a step, the first one not counted; None where nothing could be measured.
        total: Seconds of `penchant train` from reading the rows to the saved model, without starting Python;
            likewise.
        parts: Bytes at the peak of a step, by name.
        stages: Peak bytes of loading, of a step, and of what else there is; the largest one is the peak.
        times: Seconds by name; they add up to the total. Empty where nothing could be measured.
        available: Bytes that this machine has for it.
        disk: Bytes on disk, by name.
        disk_free: Free where the run directory will be.
        steps: Optimizer steps.
        pairs: Training pairs.
        micro_batches: In the first epoch.
        held_out_pairs: That are validated on.
        validations: How often, unless the run stops early.
        sizes: Of the model.
        device: Where it will run.
        machine: In words.
        notes: What was assumed, and what to do where it does not fit.
    """

    memory: Estimate
    step: Estimate | None
    total: Estimate | None
    parts: dict[str, float]
    stages: dict[str, float]
    times: dict[str, float]
    available: int
    disk: dict[str, float]
    disk_free: int
    steps: int
    pairs: int
    micro_batches: int
    held_out_pairs: int
    validations: int
    sizes: ModelSizes
    device: str
    machine: str
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether even the upper end of the memory's interval is there."""
        return self.memory.high <= self.available

    def facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        names = ("parts", "stages", "times", "available", "disk", "disk_free", "steps", "pairs", "micro_batches")
        plain = {name: getattr(self, name) for name in (*names, "held_out_pairs", "validations")}
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
        """The figures that a run can be graded by: three, or memory alone where no time could be measured."""
        found = {"memory_bytes": self.memory, "step_seconds": self.step, "total_seconds": self.total}
        return {name: estimate for name, estimate in found.items() if estimate is not None}


def plan_run(
    config: Config,
    *,
    data: Path | None = None,
    out: Path | None = None,
    start: Start | None = None,
    limit: int | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> Plan:
    """Predict what training as configured will need, and leave the prediction in `out`, if given, to be graded.

    Args:
        config: The whole configuration.
        data: The pairs; without them lengths are assumed to be `data.max_tokens`.
        out: What is to be the run directory.
        start: The model it begins from, when that does not exist yet; by default what `model.path` names.
        limit: Only the first rows of the data.
        reporter: Hears notes and progress.
        stopper: Asked now and then whether to stop.

    Raises:
        PenchantError: The model, its tokenizer or the data cannot be read.
    """
    began = time.perf_counter()
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    set_threads(config.engine)
    device = choose_device(config.engine.device)
    start = start or read_start(config.model, config.model.path)
    other = None
    if config.model.reference is not None:
        other = model_sizes(read_start(config.model, config.model.reference).source, None)
    sizes = model_sizes(start.source, **configured_choice(config.model, config.train.seed))
    packed = config.engine.prefix_sharing and (
        no_prefix_sharing_reason(random_model(start.source, "meta"), config.data.max_tokens) is None
    )
    examples = read_examples_of(config, data, start, limit=limit, reporter=reporter, stopper=stopper)
    work = work_of(config, examples, packed=packed)
    reading = time.perf_counter() - began
    stopper.check()
    folder = out or (Path.cwd() if data is None else data.parent)
    rates, available = measured_rates(folder), available_bytes(device)
    costs = _costs(config, start, sizes, work, device, available, reporter)
    shape = _shape(config, sizes, device, packed=packed)
    kept = trunk_kept(config, work, shape, device)
    parts, stages = memory_of(work, shape, costs or unmeasured_costs(start.source), kept, other)
    step, total = None, None
    times: dict[str, float] = {}
    if costs is not None:
        found = seconds_of(config, work, shape, costs, kept, other)
        spread = _NORMAL * costs.spread
        step = Estimate.within(found.step, math.hypot(spread, _STEP_ERROR))
        times = {
            "reading": reading,
            "before the first step": found.once,
            "steps": work.steps * found.step,
            "validation": work.validations * found.validation,
            "files": file_seconds(config, work, shape, rates, other),
        }
        total = Estimate.within(sum(times.values()), math.hypot(spread, _TOTAL_ERROR))
    plan = Plan(
        memory=Estimate.within(max(stages.values()), _MEMORY_ERROR if costs else _UNMEASURED_ERROR),
        step=step,
        total=total,
        parts=parts,
        stages=stages,
        times=times,
        available=available,
        disk=disk_of(config, work, shape, kept),
        disk_free=shutil.disk_usage(existing(folder)).free,
        steps=work.steps,
        pairs=len(examples.trained),
        micro_batches=len(work.chunks),
        held_out_pairs=len(examples.held_out),
        validations=work.validations,
        sizes=sizes,
        device=device,
        machine=describe_machine(device),
        notes=(),
    )
    caveats = _caveats(config, start, examples, work, sizes, available, device)
    notes = [*caveats, *_remedies(plan, config, packed=packed)]
    plan = dataclasses.replace(plan, notes=tuple(notes))
    if out is not None:
        write_prediction(out, config, plan.estimates, plan.facts())
    return plan


def _costs(
    config: Config,
    start: Start,
    sizes: ModelSizes,
    work: Work,
    device: str,
    available: int,
    reporter: Reporter,
) -> UnitCosts | None:
    """What a few layers cost, or None where not even these fit."""
    if probe_bytes(sizes, device) > available:
        return None
    reporter.note("Measuring a few steps of a model with few layers")
    return probe(config, start.source, sizes, work.largest, device)


def _shape(config: Config, sizes: ModelSizes, device: str, *, packed: bool) -> Shape:
    meta = Head(torch.empty(sizes.vocabulary, sizes.width, device="meta"), None, "fp32")
    return Shape(
        sizes,
        trunk=packed and config.engine.trunk_sharing and sizes.frozen_layers > 0,
        block_rows=meta.block_rows if device.startswith("cpu") else max(1, (1 << 30) // (FP32 * sizes.vocabulary)),
        optimizer=config.train.optimizer,
        moving=config.objective.reference_every is not None,
        four_bit=config.model.load_in_4bit,
        watched=config.monitor.generate_every is not None,
    )


def _caveats(
    config: Config, start: Start, examples: Examples, work: Work, sizes: ModelSizes, available: int, device: str
) -> list[str]:
    """What is assumed, what is missing for the run, and what could not be predicted."""
    notes = list(examples.notes)
    if start.missing:
        notes.append(f"{start.missing} The plan needs its configuration alone.")
    needed = probe_bytes(sizes, device)
    if needed > available:
        notes.append(
            f"Time is not predicted: it is measured on a few layers, and even these take {needed / 1e9:.1f} GB, "
            f"while {available / 1e9:.1f} GB are there. Memory is by formula alone, and so less sure."
        )
    if config.train.early_stop is not None:
        notes.append("A run that stops early (train.early_stop) is shorter than this.")
    if config.monitor.generate_every is not None:
        times = 1 + math.ceil(work.steps / config.monitor.generate_every)
        notes.append(
            f"Time does not count the policy's answers on the way: {times} times {config.monitor.prompts}."
        )
    if config.model.load_in_4bit:
        notes.append("Time is measured with weights in fp32; those in 4 bits are unpacked in every pass beside.")
        if importlib.util.find_spec("bitsandbytes") is None:
            notes.append("model.load_in_4bit needs the package bitsandbytes, which is not installed.")
    try:
        check_optimizer(config.train)
    except UsageError as error:
        notes.append(f"{error.what}. Its update is timed as that of adamw here.")
    return notes


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
    if config.engine.activation_checkpointing is not True:
        notes.append("It may not fit. Compute activations twice: --set engine.activation_checkpointing=true")
    return notes


def available_bytes(device: str) -> int:
    """Return the memory that a run could have here: what is free, and on a CPU what this process has already."""
    free = free_bytes(torch.device(device))
    if free is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return free if device.startswith("cuda") else free + resident_bytes()
