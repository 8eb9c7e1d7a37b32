"""What a run takes on so many devices: time by part, memory on each, stores, cost, and what limits it first.

One optimizer step is simulated as its slowest rank sees it. What is measured and what is assumed stands in
`scale_devices`; the work of a pair comes from `scale_work`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from scripts.scale_devices import Device, Host
from scripts.scale_work import (
    BF16,
    FP32,
    Lengths,
    Model,
    PairLoads,
    mean_scored,
    mean_tokens,
    pair_loads,
    reference_store_bytes,
    saved_bytes,
    trunk_store_bytes,
)

ADAM = 2 * FP32
PAIRS_A_STEP, PAIRS_A_RANK = 128, 4
_MICRO_BATCHES = tuple(1024 << power for power in range(7))  # tokens in a pass
_STEP_CALLS = 3  # calls of a layer forward and backward, in calls of a forward pass
_FRAGMENTS = 1.1  # what an allocator holds over what is alive
_AS_QUICK = 1.01
_BALANCE_STEPS = 64  # steps drawn to find the slowest rank
_SECONDS_A_DAY = 86_400
_INTERRUPTIONS = 419 / (16_384 * 54 * _SECONDS_A_DAY)  # a GPU-second: Llama 3's pre-training, 54 days, 16,384 H100


@dataclass(frozen=True)
class Setup:
    """A run to predict.

    Attributes:
        model: Its shape.
        part: What is trained, one of `scale_work.PARTS`.
        lengths: Of its pairs; the mean counts, and for balance the spread.
        pairs: How many.
        devices: How many.
        device: Which.
        epochs: Passes over the pairs.
        batch: Pairs a step; None = 128, and at least 4 a device.
        price: Of a device and hour.
        checkpoint_minutes: Between two checkpoints.
    """

    model: Model
    part: str
    lengths: Lengths
    pairs: float
    devices: int
    device: Device
    epochs: float = 1
    batch: int | None = None
    price: float = 0
    checkpoint_minutes: float = 30

    @property
    def pairs_a_step(self) -> int:
        """Pairs in an optimizer step, as stated or by the rule."""
        wanted = self.batch or max(PAIRS_A_STEP, PAIRS_A_RANK * self.devices)
        return max(1, min(wanted, int(self.pairs)))

    @property
    def working(self) -> int:
        """Devices that have a pair of each step."""
        return min(self.devices, self.pairs_a_step)


@dataclass(frozen=True)
class Layout:
    """How parameters and passes are laid out.

    Attributes:
        name: As torch calls it.
        shards: Devices that share one copy of parameters, gradients and moments.
        checkpointing: Whether trained layers are computed again in the backward pass.
        tokens: In a micro-batch.
    """

    name: str
    shards: int
    checkpointing: bool
    tokens: int


@dataclass(frozen=True)
class Outcome:
    """What a run takes.

    Attributes:
        layout: The quickest that fits; None when nothing does.
        seconds: By part; their sum is the whole.
        memory: Bytes on a device by part; of the layout that needs least when none fits.
        reference_store: Bytes.
        trunk_store: Bytes that the frozen layers' outputs would take; 0 without frozen layers.
        host_memory: Bytes of a node's memory that the keys of all pairs take in its ranks.
        checkpoint: Bytes of one.
        cost: Price of all devices for the whole time.
    """

    layout: Layout | None
    seconds: Mapping[str, float]
    memory: Mapping[str, float]
    reference_store: float
    trunk_store: float
    host_memory: float
    checkpoint: float
    cost: float
    steps: int = 0
    lost: float = field(default=0.0)

    @property
    def total(self) -> float:
        """Seconds of the whole run; infinite when it does not fit."""
        return sum(self.seconds.values()) if self.layout else math.inf

    def ranked(self) -> list[tuple[str, float]]:
        """Return the parts of the time and their shares, the largest first."""
        return sorted(((name, part / self.total) for name, part in self.seconds.items()), key=lambda one: -one[1])


def simulate(setup: Setup, host: Host) -> Outcome:
    """Return what a run takes in the quickest layout that fits."""
    loads = pair_loads(setup.model, setup.part, setup.lengths)
    found = [(layout, memory_of(setup, layout)) for layout in _layouts(setup)]
    fitting = [(layout, memory) for layout, memory in found if sum(memory.values()) <= setup.device.memory]
    if fitting:
        timed = [(_seconds(setup, layout, loads, host), layout, memory) for layout, memory in fitting]
        quickest = min(sum(seconds.values()) for seconds, _, _ in timed)
        # the first of those that are about as quick: the simplest
        seconds, layout, memory = next(one for one in timed if sum(one[0].values()) <= _AS_QUICK * quickest)
    else:
        seconds, layout, memory = {}, None, min((memory for _, memory in found), key=lambda one: sum(one.values()))
    whole = sum(seconds.values())
    frozen = setup.model.sizes.layers - setup.model.upper_layers(setup.part)
    interval = min(60 * setup.checkpoint_minutes, whole)
    ranks = min(setup.devices, setup.device.per_node)
    return Outcome(
        layout=layout,
        seconds=seconds,
        memory=memory,
        reference_store=reference_store_bytes(setup.lengths, setup.pairs),
        trunk_store=setup.pairs * trunk_store_bytes(setup.model, setup.lengths) if frozen else 0.0,
        host_memory=ranks * setup.pairs * host.key_bytes,
        checkpoint=checkpoint_bytes(setup),
        cost=whole / 3600 * setup.devices * setup.price,
        steps=_steps(setup),
        lost=whole * setup.devices * _INTERRUPTIONS * interval / 2,
    )


def checkpoint_bytes(setup: Setup) -> float:
    """Return the bytes of a checkpoint: what is trained, and its moments."""
    return (FP32 + ADAM) * setup.model.trained(setup.part)


def best_interval(setup: Setup, seconds: float) -> float:
    """Return the seconds between checkpoints that lose least, of a checkpoint that takes so long (Young 1974)."""
    return math.sqrt(2 * seconds / (_INTERRUPTIONS * setup.devices))


def checkpoint_seconds(setup: Setup, host: Host) -> float:
    """Return the seconds of a checkpoint: each node writes its share, each process hashes its own.

    With one copy of the parameters on every device one process writes all.
    """
    layout = simulate(replace(setup, checkpoint_minutes=math.inf), host).layout
    return _checkpoint(setup, host, layout.shards if layout else setup.devices)


def _checkpoint(setup: Setup, host: Host, shards: int) -> float:
    nodes = math.ceil(shards / setup.device.per_node)
    size = checkpoint_bytes(setup)
    return size / nodes / host.write + size / shards / host.hashed


@cache
def imbalance(lengths: Lengths, ranks: int, each: int) -> float:
    """Return what the slowest rank of a step has over the mean rank, in tokens, less one.

    The pairs of a step are drawn at random and dealt out, the longest first, each to the rank that has least.
    """
    if ranks == 1:
        return 0.0
    tokens = np.array([sum(one) for one in lengths], dtype=np.float64)
    draw = np.random.default_rng(0)
    steps = max(4, _BALANCE_STEPS * 64 // (ranks * each))
    found = []
    for _ in range(min(steps, _BALANCE_STEPS)):
        step = draw.choice(tokens, ranks * each)
        heap = [0.0] * ranks
        for pair in np.sort(step)[::-1]:
            heapq.heapreplace(heap, heap[0] + float(pair))
        found.append(max(heap) / (step.sum() / ranks))
    return float(np.mean(found)) - 1


def memory_of(setup: Setup, layout: Layout) -> dict[str, float]:
    """Return the bytes that a device needs at the peak of a step, by part."""
    model, sizes = setup.model, setup.model.sizes
    trained, upper = model.trained(setup.part), model.upper_layers(setup.part)
    lower = (sizes.layers - upper) * model.layer
    # adapters leave every layer in fp32 in its place; layers below the lowest trained one are rounded once
    still = model.parameters if setup.part == "lora" else (model.head if setup.part == "last5" else 0)
    sharded = layout.shards > 1
    halves = BF16 * (2 * model.layer + model.head if sharded else upper * model.layer + model.head)
    kept = saved_bytes(model, bf16=setup.device.bf16)
    activations = upper * kept
    if layout.checkpointing:
        activations = upper * FP32 * sizes.width + kept
    scored = min(1.0, mean_scored(setup.lengths) / mean_tokens(setup.lengths)) * layout.tokens
    rows = min(scored, max(1, setup.device.score_bytes / (FP32 * sizes.vocabulary)))
    return {
        "weights": (FP32 * (trained + still) + BF16 * lower) / layout.shards,
        "gradients": FP32 * trained / layout.shards,
        "moments": ADAM * trained / layout.shards,
        "weights in bf16": halves if setup.device.bf16 else 0.0,
        "activations": _FRAGMENTS * activations * layout.tokens,
        "head": FP32 * sizes.vocabulary * rows + (FP32 * model.head if setup.part != "lora" else 0),
        "libraries": setup.device.libraries,
    }


def _layouts(setup: Setup) -> list[Layout]:
    """Every layout there is; more tokens than a rank has in a step are no use."""
    here, node = setup.working, setup.device.per_node
    kinds = [("one process", 1)] if here == 1 else [("DDP", 1)]
    if here > 1:
        kinds.append(("FSDP2", here) if here <= node else ("HSDP", node))
    if here > node:
        kinds.append(("FSDP2", here))
    longest = max(sum(one) for one in setup.lengths)
    most = setup.pairs_a_step / here * mean_tokens(setup.lengths)
    sizes = [size for size in _MICRO_BATCHES if size >= longest]
    useful = [size for size in sizes if size < 2 * most] or sizes[:1]
    return [
        Layout(name, shards, checkpointing, size)
        for name, shards in kinds
        for checkpointing in (False, True)
        for size in useful
    ]


def _steps(setup: Setup) -> int:
    return max(1, math.ceil(setup.epochs * setup.pairs / setup.pairs_a_step))


def _seconds(setup: Setup, layout: Layout, loads: PairLoads, host: Host) -> dict[str, float]:
    """Seconds of the run by part, in one layout."""
    step = _step_seconds(setup, layout, loads)
    parts = {
        "tokenising": setup.pairs * host.tokenising(mean_tokens(setup.lengths)),
        "opening the store": setup.pairs * host.opening,
        "reading the store": reference_store_bytes(setup.lengths, setup.pairs) / host.read,
        "reference pass": _reference_seconds(setup, layout, loads),
        **{name: _steps(setup) * seconds for name, seconds in step.items()},
    }
    checkpoint = _checkpoint(setup, host, layout.shards)
    parts["checkpoints"] = math.floor(sum(parts.values()) / (60 * setup.checkpoint_minutes)) * checkpoint
    final = FP32 * setup.model.parameters
    parts["saving the model"] = final / host.write + final / host.hashed
    return parts


def _step_seconds(setup: Setup, layout: Layout, loads: PairLoads) -> dict[str, float]:
    """Seconds of an optimizer step by part, as the slowest rank has them."""
    model, device = setup.model, setup.device
    each = setup.pairs_a_step / setup.working
    passes = max(1, math.ceil(each * mean_tokens(setup.lengths) / layout.tokens))
    upper = model.upper_layers(setup.part)
    load = loads.step + loads.again if layout.checkpointing else loads.step
    calls = passes * upper * (_STEP_CALLS + layout.checkpointing)
    compute, launch = _compute(device, each * device.rates.seconds(load), calls)
    frozen = 0.0
    if not device.keeps_trunk and upper < model.sizes.layers:
        frozen = sum(
            _compute(device, each * device.rates.seconds(loads.trunk), passes * (model.sizes.layers - upper))
        )
    waiting = imbalance(setup.lengths, setup.working, round(each) or 1) * (compute + frozen)
    gathers, reduces = _link_seconds(setup, layout, passes)
    last_pass = (compute + launch) / passes * 2 / 3  # a gradient can travel from where it is made on
    window = device.overlap * (compute + launch if layout.shards > 1 else last_pass)
    return {
        "compute": compute,
        "starting kernels": launch,
        "frozen layers again": frozen,
        "waiting for the slowest rank": waiting,
        "links": max(0.0, gathers + reduces - window),
        "optimizer": device.rates.update * model.trained(setup.part) / layout.shards,
    }


def _compute(device: Device, compute: float, calls: float) -> tuple[float, float]:
    """Seconds of the work, and what starting its kernels adds: on a GPU both go on at once."""
    starting = calls * device.rates.call
    return compute, max(0.0, starting - compute) if device.asynchronous else starting


def _reference_seconds(setup: Setup, layout: Layout, loads: PairLoads) -> float:
    device, model = setup.device, setup.model
    each = setup.pairs / setup.working
    passes = each * mean_tokens(setup.lengths) / layout.tokens
    compute, launch = _compute(device, each * device.rates.seconds(loads.reference), passes * model.sizes.layers)
    links = passes * _gather(setup, layout) if layout.shards > 1 else 0.0
    return compute + launch + max(0.0, links - device.overlap * compute)


def _gather(setup: Setup, layout: Layout) -> float:
    """Seconds in which every rank has had all parameters once, layer by layer."""
    size = (BF16 if setup.device.bf16 else FP32) * setup.model.parameters
    return setup.device.ring(size, layout.shards, setup.model.sizes.layers)


def _link_seconds(setup: Setup, layout: Layout, passes: int) -> tuple[float, float]:
    """Seconds of all gathers and of all reductions of a step, were nothing else done meanwhile."""
    model, device = setup.model, setup.device
    gradients = FP32 * model.trained(setup.part)
    if layout.shards == 1:
        return 0.0, 2 * device.ring(gradients, setup.working, 1)
    gathers = 2 * passes * _gather(setup, layout)  # forward, and once more backward
    reduces = passes * device.ring(gradients, layout.shards, model.sizes.layers)
    copies = setup.working // layout.shards
    return gathers, reduces + 2 * device.across(gradients / layout.shards, copies)
