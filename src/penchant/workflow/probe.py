"""Unit costs of a run on this device: a few real training steps of models with few layers.

The layers, the head, the attention, the batching and the optimizer are the run's own, by the same `train`; only
the number of layers and the number of pairs are small, and the weights are random. Costs of one more layer are the
difference between two depths, measured with a small vocabulary so that the head does not drown it; the cost of the
head is the difference between two vocabularies. A layer timed by itself would have none of the batching, the
allocator's work and the optimizer's traffic of a step.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, pstdev
from typing import Any, cast

import torch

from penchant.batching.packing import first_epoch_chunks
from penchant.batching.pair_batch import pair_group
from penchant.config import Config, ObjectiveConfig
from penchant.errors import UsageError
from penchant.models.activation_memory import bytes_kept
from penchant.models.freeze import (
    Choice,
    choose_trainable,
    configured_choice,
    decoder,
    layers,
    trained_names,
)
from penchant.models.load import LoadedModel
from penchant.models.lora import adapted_layers
from penchant.models.memory import release_memory
from penchant.models.sizes import ModelSizes, model_sizes, random_model, thin_config
from penchant.objective.head import Head
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import needs_reference, pair_objective
from penchant.objective.pair_facts import is_coupled, pair_facts
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.cost import (
    Line,
    Load,
    Shape,
    UnitCosts,
    micro_batch_load,
    step_parts,
)
from penchant.training.loop import train
from penchant.training.optimizer import check_optimizer, make_optimizer
from penchant.training.step import Trainer
from penchant.training.telemetry import peak_memory_bytes, reset_peak_memory
from penchant.types import TokenizedPair
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import scoring_model

SMALL_VOCABULARY = 256
_HEAD_BYTES = 800 << 20  # of the probe's head with its copy, gradient and moments, at most, on a CPU
_LAYER_BYTES = 1 << 30  # of its deepest model's layers likewise
_CPU_TOKENS = 640  # in a probe's micro-batch: larger ones are hardly more efficient there
_STEPS, _FORWARDS = 5, 3
_WARM_UP = 2  # steps, and one forward: the allocator learns the sizes
_NO_LIMIT = 1 << 40


@dataclass(frozen=True)
class _Seconds:
    forward: float
    step: float
    spread: float


@dataclass(frozen=True)
class _Probe:
    """One thin model, and how to run it."""

    config: Config
    model: PairModel
    sizes: ModelSizes

    def seconds(self, pairs: Sequence[TokenizedPair]) -> _Seconds:
        """Time the forward pass and the training step over some pairs in one micro-batch.

        The least of some repetitions, since whatever disturbs one only makes it longer.
        """
        forwards = [self._forward_seconds(pairs) for _ in range(_FORWARDS)][1:]
        steps = self._step_seconds(pairs)[_WARM_UP:]
        return _Seconds(min(forwards), min(steps), pstdev(steps) / median(steps))

    @torch.no_grad()
    def _forward_seconds(self, pairs: Sequence[TokenizedPair]) -> float:
        started = time.perf_counter()
        self.model(self.model.collate([pair_group(pair) for pair in pairs])).cpu()
        return time.perf_counter() - started

    def _step_seconds(self, pairs: Sequence[TokenizedPair]) -> list[float]:
        config = _one_batch(self.config, len(pairs))
        trainer = Trainer(
            config,
            self.model,
            pairs,
            self._reference(config, pairs),
            make_optimizer(config, self.model),
            TrunkCache(0),
        )
        seconds: list[float] = []
        train(trainer, lambda _, metrics: seconds.append(metrics["seconds"]))
        return seconds

    def _reference(self, config: Config, pairs: Sequence[TokenizedPair]) -> PairLogps | None:
        """What the policy gives now, as it is after earlier steps."""
        if not needs_reference(config.objective):
            return None
        [chunks] = first_epoch_chunks(
            [1] * len(pairs), steps=1, batch=len(pairs), max_tokens=_NO_LIMIT, seed=config.train.seed
        )
        with tempfile.TemporaryDirectory() as folder:
            return reference_logps(
                self.model,
                pairs,
                Path(folder),
                micro_batch_tokens=_NO_LIMIT,
                weights="random",
                chunks=chunks,
            ).logps

    def saved(self, pairs: Sequence[TokenizedPair]) -> int:
        """Return the bytes that a forward pass keeps for the backward pass, the head's own not counted."""
        batch = self.model.collate([pair_group(pair) for pair in pairs])
        config, zeros = self.config.objective, torch.zeros(len(pairs), device=self.model.device)
        nothing = PairLogps(zeros, zeros, zeros + 1, zeros + 1)
        facts = pair_facts(config, pairs, 1 / len(pairs), self.model.device)
        objective = pair_objective(config, nothing if needs_reference(config) else None, facts)
        return bytes_kept(lambda: self.model.losses(batch, objective).total, self.model.parameters())


def probe(
    config: Config, source: Any, sizes: ModelSizes, pairs: Sequence[TokenizedPair], device: str
) -> UnitCosts:
    """Measure what layers, head and updates of a model cost on a device.

    Takes a few seconds and, on a CPU, memory for a few layers and the head. Weights are fp32, also where the run
    keeps its frozen ones in 4 bits.

    Args:
        config: Of the run.
        source: transformers' configuration of the model.
        sizes: Of the model.
        pairs: Those of the micro-batch that holds most tokens.
        device: Where the run will be.
    """
    config = _measurable(config)
    on_cpu = device.startswith("cpu")
    large = _at_most(pairs, _CPU_TOKENS) if on_cpu else list(pairs)
    small = [_shortened(pair) for pair in large]
    deep, vocabulary = _depth(sizes, on_cpu=on_cpu), _vocabulary(sizes, on_cpu=on_cpu)

    def thin(depth: int, vocabulary: int) -> _Probe:
        return _thin(config, source, depth, vocabulary, device)

    peak, whole_time, whole = _whole_probe(config, source, vocabulary, device, _within(large, vocabulary))
    update = _update_seconds(config, device)
    layered = thin(deep, SMALL_VOCABULARY)
    few, many = _within(small), _within(large)
    deep_time, deep_saved = layered.seconds(many), [layered.saved(few), layered.saved(many)]
    del layered
    flat = thin(2, SMALL_VOCABULARY)
    packed = flat.model.prefix_sharing
    sized, tiny = flat.sizes, [_load(few, packed), _load(many, packed)]
    flat_times, flat_saved = [flat.seconds(few), flat.seconds(many)], [flat.saved(few), flat.saved(many)]
    del flat
    more = deep - 2
    work = [load.layer_tokens(sized) for load in tiny]
    layer_forward = max(0.0, deep_time.forward - flat_times[1].forward) / (more * work[1])
    grown = more * sized.layer * update if sizes.trained else 0.0
    layer_step = max(0.0, deep_time.step - flat_times[1].step - grown) / (more * work[1])
    fixed_update = update * sized.trained
    tokens = [load.tokens for load in tiny]

    def rest(seconds: Sequence[float], each: float) -> Line:
        points = [
            (count, max(0.0, value - each * amount))
            for count, value, amount in zip(tokens, seconds, work, strict=True)
        ]
        return Line.through(points[0], points[1])

    layer_saved = _exact_line(tokens, [(a - b) / more for a, b in zip(deep_saved, flat_saved, strict=True)])
    rest_saved = _exact_line(
        tokens, [kept - layer_saved.at(count) for kept, count in zip(flat_saved, tokens, strict=True)]
    )
    rows = tiny[1].rows * vocabulary / sizes.vocabulary
    found = UnitCosts(
        layer_forward=layer_forward,
        layer_step=layer_step,
        rest_forward=rest([each.forward for each in flat_times], layer_forward),
        rest_step=rest([each.step - fixed_update for each in flat_times], layer_step),
        head_forward=max(0.0, whole_time.forward - flat_times[1].forward) / rows,
        head_step=max(0.0, whole_time.step - flat_times[1].step - update * (whole.trained - sized.trained)) / rows,
        update=update,
        layer_saved=layer_saved,
        rest_saved=rest_saved,
        working=Line(0.0, 0.0),
        spread=max(each.spread for each in (deep_time, flat_times[1], whole_time)),
    )
    load = _load(large, packed)
    block_rows = _block_rows(vocabulary, whole.width, device)
    shape = Shape(whole, trunk=False, block_rows=block_rows, optimizer=config.train.optimizer)
    known = sum(step_parts([load], shape, found, accumulates=False).values())
    return dataclasses.replace(found, working=_working(peak - known, load, found, on_cpu=on_cpu))


def probe_bytes(sizes: ModelSizes, device: str) -> int:
    """Return the memory that `probe` takes for weights, gradients and moments, bytes.

    Args:
        sizes: Of the model.
        device: Where the probe would be.
    """
    on_cpu = device.startswith("cpu")
    each = 16 if sizes.trained >= sizes.layer else 4  # adapters, or nothing of a layer, are trained
    head = 20 * sizes.width * _vocabulary(sizes, on_cpu=on_cpu)
    return each * sizes.layer * _depth(sizes, on_cpu=on_cpu) + head


def _depth(sizes: ModelSizes, *, on_cpu: bool) -> int:
    """Layers of the deepest model that is measured."""
    return 6 if not on_cpu or 6 * 16 * sizes.layer <= _LAYER_BYTES else 3


def _vocabulary(sizes: ModelSizes, *, on_cpu: bool) -> int:
    """Rows of the largest head that is measured."""
    if not on_cpu:
        return sizes.vocabulary
    return min(sizes.vocabulary, max(SMALL_VOCABULARY * 4, _HEAD_BYTES // (20 * sizes.width)))


def _measurable(config: Config) -> Config:
    """What is measured of a run: steps that pass its pairs through the model once, and an optimizer that is here.

    Where a loss has to look at the whole step first, DPO stands for it: the plan counts those passes by itself,
    and what a pass costs does not depend on the loss. AdamW stands for an optimizer that is not installed.
    """
    changes: dict[str, Any] = {}
    if is_coupled(config.objective):
        changes["objective"] = ObjectiveConfig(loss="dpo")  # type: ignore[call-arg]
    try:
        check_optimizer(config.train)
    except UsageError:
        changes["train"] = config.train.model_copy(update={"optimizer": "adamw"})
    return config.model_copy(update=changes)


def _working(left: float, load: Load, costs: UnitCosts, *, on_cpu: bool) -> Line:
    """What the probe's peak holds beyond what has a name, split into libraries and what grows with tokens.

    A layer's backward pass needs about as much again as one layer keeps; the rest does not depend on the batch.
    """
    each = min(costs.layer_saved.each, max(0.0, left) / load.tokens)
    return Line(max(0.0, left - each * load.tokens), each)


def _whole_probe(
    config: Config, source: Any, vocabulary: int, device: str, pairs: Sequence[TokenizedPair]
) -> tuple[int, _Seconds, ModelSizes]:
    """Time two layers under the whole head, and find the most memory that this needed.

    It comes first: what the allocator holds on to after other work would be counted.
    """
    release_memory()
    reset_peak_memory(device)
    model = _thin(config, source, 2, vocabulary, device)
    seconds = model.seconds(pairs)
    return peak_memory_bytes(device), seconds, model.sizes


def _thin(config: Config, source: Any, depth: int, vocabulary: int, device: str) -> _Probe:
    thin = thin_config(source, depth, vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = random_model(thin, device)
    choice = _thin_choice(config, source, depth)
    choose_trainable(model, **choice)
    loaded = LoadedModel(model, cast(Any, None), "", (), 0)
    ready = scoring_model(
        loaded, config.engine, max_tokens=config.data.max_tokens, trunk_layers=0, reporter=Reporter()
    )
    return _Probe(config, ready, model_sizes(thin, **choice))


def _thin_choice(config: Config, source: Any, depth: int) -> Choice:
    """What is trained of a thin model: all its layers, each in what the run trains of any layer."""
    choice = configured_choice(config.model, config.train.seed)
    if choice["last_layers"] is not None:
        choice["last_layers"] = depth
    lora, patterns = choice["lora"], choice["patterns"]
    if patterns:
        choice["patterns"] = _in_any_layer(trained_names(random_model(source, "meta"), patterns))
    if lora is not None and lora.targets:
        whole = random_model(source, "meta")
        names = adapted_layers(whole, layers(decoder(whole)), lora.targets)
        choice["lora"] = dataclasses.replace(lora, targets=_in_any_layer(names))
    return choice


def _in_any_layer(names: Sequence[str]) -> tuple[str, ...]:
    """Patterns of the same names with any number of a decoder layer."""
    return tuple(sorted({re.sub(r"(?<=\.layers\.)\d+(?=\.)", "*", name) for name in names}))


def _one_batch(config: Config, pairs: int) -> Config:
    """The configuration of some steps that each take all pairs in one micro-batch."""
    changes = {"batch_pairs": pairs, "epochs": float(_STEPS), "max_steps": None, "checkpoint_every": None}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=changes),
            "engine": config.engine.model_copy(update={"micro_batch_tokens": _NO_LIMIT}),
        }
    )


def _update_seconds(config: Config, device: str) -> float:
    """Seconds that the optimizer, the norm before it and zeroing take for a parameter."""
    parameter = torch.nn.Parameter(torch.zeros(8 << 10, 1 << 10, device=device))
    optimizer = make_optimizer(config, cast(Any, torch.nn.ParameterList([parameter])))
    seconds = []
    for _ in range(_FORWARDS):
        parameter.grad = torch.ones_like(parameter)
        started = time.perf_counter()
        float(torch.nn.utils.get_total_norm([parameter.grad]))
        optimizer.step()
        float(parameter[0, 0].detach())
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:]) / parameter.numel()


def _load(pairs: Sequence[TokenizedPair], packed: bool) -> Load:
    return micro_batch_load([pair_group(pair) for pair in pairs], packed=packed)


def _exact_line(tokens: Sequence[int], found: Sequence[float]) -> Line:
    """Two exact counts, by tokens."""
    return Line.through((tokens[0], max(0.0, found[0])), (tokens[1], max(0.0, found[1])))


def _block_rows(vocabulary: int, width: int, device: str) -> int:
    return Head(torch.empty(vocabulary, width, device=device), None, "fp32").block_rows


def _at_most(pairs: Sequence[TokenizedPair], tokens: int) -> list[TokenizedPair]:
    """As many of the pairs as have so many tokens together; of a single longer one the first ones."""
    taken: list[TokenizedPair] = []
    for pair in pairs:
        if taken and sum(other.num_tokens for other in taken) + pair.num_tokens > tokens:
            break
        taken.append(pair)
    while len(taken) == 1 and taken[0].num_tokens > tokens:
        taken = [_shortened(taken[0])]
    return taken


def _shortened(pair: TokenizedPair) -> TokenizedPair:
    """A pair of half the length; every token of it is scored."""

    def half(ids: tuple[int, ...]) -> tuple[int, ...]:
        return ids[: max(1, len(ids) // 2)]

    return TokenizedPair(pair.id, half(pair.prompt_ids), half(pair.chosen_ids), half(pair.rejected_ids))


def _within(pairs: Sequence[TokenizedPair], vocabulary: int = SMALL_VOCABULARY) -> list[TokenizedPair]:
    """The pairs with ids of a small vocabulary."""

    def inside(ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(token % vocabulary for token in ids)

    return [
        dataclasses.replace(
            pair,
            prompt_ids=inside(pair.prompt_ids),
            chosen_ids=inside(pair.chosen_ids),
            rejected_ids=inside(pair.rejected_ids),
        )
        for pair in pairs
    ]
