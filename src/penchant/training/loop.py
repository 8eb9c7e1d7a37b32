"""The training loop. Read `train` first: gradients, update, and what the step before came to."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from penchant.batching.packing import in_last_epoch, split_by_tokens, step_indices
from penchant.batching.pair_batch import PairBatch, pair_group
from penchant.batching.prefetch import prefetched
from penchant.config import Config
from penchant.errors import ModelError, NotFiniteError, UsageError
from penchant.models.memory import is_out_of_memory, release_memory
from penchant.models.precision import compute_in
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import pair_losses, pair_objective, uses_means
from penchant.objective.metrics import StepSums
from penchant.objective.moving_reference import MovingReference
from penchant.objective.pair_facts import PairFacts, is_coupled, pair_facts, step_statistics
from penchant.objective.pair_model import PairModel
from penchant.objective.step_pass import step_facts
from penchant.objective.trunk_cache import TrunkCache, trunk_output
from penchant.training.optimizer import clipping_scale
from penchant.training.schedule import learning_rate, total_steps
from penchant.training.telemetry import peak_memory_bytes
from penchant.types import TokenizedPair

# How far the first loss may lie from its value at policy == reference. Both were computed in the same layout,
# so the distance is zero unless a stored reference was scored in another order (fp32 only).
_GATE_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-3}


@dataclass
class Trainer:
    """All that a step needs. Nothing else has state.

    Attributes:
        config: The run's configuration.
        model: The policy.
        pairs: Training pairs.
        reference: Their log-probabilities under the reference; None when the loss needs none.
        optimizer: Over the trained parameters, see `penchant.training.optimizer`.
        trunk_cache: Outputs of the frozen layers, as far as they were kept.
        start_step: Optimizer steps already done, when resumed.
        prompts: The number of each pair's prompt, when prompts are what is shuffled.
        note: Hears one line about whatever had to be changed on the way.
        moving: The reference of the steps, when it moves; `reference` then is where it began.
    """

    config: Config
    model: PairModel
    pairs: Sequence[TokenizedPair]
    reference: PairLogps | None
    optimizer: torch.optim.Optimizer
    trunk_cache: TrunkCache
    start_step: int = 0
    prompts: Sequence[int] | None = None
    note: Callable[[str], None] = lambda _: None
    moving: MovingReference | None = None

    def __post_init__(self) -> None:
        self.micro_batch_tokens = self.config.engine.micro_batch_tokens

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return total_steps(self.config.train, len(self.pairs))


def train(trainer: Trainer, on_step: Callable[[int, dict[str, float]], bool | None]) -> None:
    """Run all steps that are left; `on_step(steps_done, metrics)` is called after each, before the next update.

    When it returns True, that step was the last one.

    Raises:
        ModelError: The first loss is not what policy == reference must give.
        NotFiniteError: A loss or gradient is not finite; the weights are those of the step before.
    """
    pending: _Update | None = None
    steps = range(trainer.start_step, trainer.total_steps)
    with contextlib.closing(prefetched(partial(_prepare, trainer), steps)) as ahead:
        started = time.perf_counter()
        for prepared in ahead:  # the next step is read and packed while this one is computed
            sums = _gradients(trainer, prepared)
            seconds = time.perf_counter() - started
            if pending is not None:  # by now the device has done it, and is busy with the gradients of this one
                if on_step(pending.step + 1, _read(trainer, pending)):
                    trainer.optimizer.zero_grad(set_to_none=True)  # those of a step that will not be taken
                    return
            if prepared.step == 0:
                _check_first_loss(trainer, prepared, sums)
            pending = _update(trainer, prepared.step, sums, seconds)
            if trainer.moving is not None:
                trainer.moving.after_step(prepared.step + 1)
            started = time.perf_counter()
    if pending is not None:
        on_step(pending.step + 1, _read(trainer, pending))


@dataclass(frozen=True)
class _Prepared:
    """A step's micro-batches: which pairs, and their tensors."""

    step: int
    indices: list[int]
    parts: list[tuple[list[int], PairBatch]]
    micro_batch_tokens: int
    weight: float  # of each pair in the step's loss, however the step is split


def _prepare(trainer: Trainer, step: int) -> _Prepared:
    count, order = len(trainer.pairs), trainer.config.train
    indices = step_indices(step, count=count, batch=order.batch_pairs, seed=order.seed, prompts=trainer.prompts)
    groups = [pair_group(trainer.pairs[index]) for index in indices]
    tokens = trainer.micro_batch_tokens
    places = split_by_tokens([group.num_packed_tokens for group in groups], tokens)
    parts = [
        ([indices[place] for place in part], trainer.model.collate([groups[place] for place in part]))
        for part in places
    ]
    by_token = trainer.config.objective.logps == "tokens"
    counted = sum(trainer.pairs[index].num_scored[0] for index in indices) if by_token else len(indices)
    return _Prepared(step, indices, parts, tokens, 1 / counted)


def _gradients(trainer: Trainer, prepared: _Prepared) -> StepSums:
    """Add up the gradients of a step; where memory does not suffice, once more in smaller micro-batches."""
    step = prepared.step
    while True:
        if prepared.micro_batch_tokens != trainer.micro_batch_tokens:  # prepared before they had to shrink
            prepared = _prepare(trainer, step)
        try:
            sums = _add_up(trainer, prepared)
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        _shrink(trainer, prepared)  # outside of `except`, where the error would hold on to what is to be freed
    batch = trainer.config.train.batch_pairs
    if in_last_epoch(step, steps=trainer.total_steps, count=len(trainer.pairs), batch=batch):
        trainer.trunk_cache.drop(prepared.indices)
    return sums


def _add_up(trainer: Trainer, prepared: _Prepared) -> StepSums:
    config, model = trainer.config.objective, trainer.model
    whole = _step_reference(trainer, prepared)
    facts = _step_facts(trainer, prepared, whole)
    sums, done = StepSums(), 0
    for indices, batch in prepared.parts:
        places = torch.arange(done, done + len(indices), device=model.device)
        reference = None if whole is None else whole.select(places)
        objective = pair_objective(config, reference, facts.select(places))
        result = model.losses(batch, objective, trunk_output(model, batch, indices, trainer.trunk_cache))
        with compute_in(model.precision, model.device):
            result.total.backward()
        losses = result.losses
        if config.pair_weights:  # what is logged is what is minimised
            losses = losses * (objective.weights / prepared.weight)
        labels = None if facts.desirable is None else facts.desirable[places]
        sums.add(losses, result.logps, reference, config=config, tokens=batch.num_tokens, desirable=labels)
        done += len(indices)
    return sums


def _step_reference(trainer: Trainer, prepared: _Prepared) -> PairLogps | None:
    """The reference's log-probabilities of the step's pairs, in the order of its micro-batches."""
    if trainer.moving is not None:
        return trainer.moving.logps(prepared.parts, trainer.trunk_cache)
    return _select(trainer.reference, _order(prepared), trainer.model.device)


def _order(prepared: _Prepared) -> list[int]:
    return [index for indices, _ in prepared.parts for index in indices]


def _step_facts(trainer: Trainer, prepared: _Prepared, reference: PairLogps | None) -> PairFacts:
    """What is known of the step's pairs, in the order of its micro-batches."""
    config, model, parts, order = trainer.config.objective, trainer.model, prepared.parts, _order(prepared)
    facts = pair_facts(config, [trainer.pairs[index] for index in order], prepared.weight, model.device)
    if not is_coupled(config):
        return facts
    return step_facts(config, model, parts, reference, trainer.trunk_cache, facts)


def _shrink(trainer: Trainer, prepared: _Prepared) -> None:
    """Halve the micro-batches: gradients do not depend on how a step is split, so the course is the same.

    Raises:
        UsageError: Each of them is a single pair already.
    """
    trainer.optimizer.zero_grad(set_to_none=True)
    release_memory()
    largest = max(batch.num_tokens for _, batch in prepared.parts)
    if all(len(indices) == 1 for indices, _ in prepared.parts):
        raise UsageError(
            f"step {prepared.step + 1}: not even one pair of {largest} tokens fits into memory",
            fix="Lower data.max_tokens, train fewer layers (model.last_layers) or adapters (model.lora_rank).",
        )
    trainer.micro_batch_tokens = max(1, min(trainer.micro_batch_tokens, largest) // 2)
    trainer.note(
        f"Out of memory at step {prepared.step + 1}: micro-batches have at most {trainer.micro_batch_tokens} "
        "tokens from here on. No number changes by it."
    )


@dataclass
class _Update:
    """An update that was asked for; whether it was refused stands on the device."""

    step: int
    sums: StepSums
    rate: float
    grad_norm: Tensor
    refused: Tensor
    seconds: float


def _update(trainer: Trainer, step: int, sums: StepSums, seconds: float) -> _Update:
    """Clip and update, or refuse both where something is not finite: decided on the device, not waited for."""
    started, optimizer = time.perf_counter(), cast(Any, trainer.optimizer)
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grad_norm = torch.nn.utils.get_total_norm(gradients)
    refused = (~(grad_norm + sums.loss).isfinite()).float()
    # the optimizer divides by one and obeys the other, as torch's GradScaler has its fused kernels do
    optimizer.grad_scale = clipping_scale(grad_norm, trainer.config.train.clip_norm)
    optimizer.found_inf = refused
    rate = learning_rate(trainer.config.train, step, trainer.total_steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return _Update(step, sums, rate, grad_norm, refused, seconds + time.perf_counter() - started)


def _read(trainer: Trainer, update: _Update) -> dict[str, float]:
    means, grad_norm = update.sums.means(), float(update.grad_norm)
    if bool(update.refused):
        raise NotFiniteError(
            f"step {update.step + 1}: the loss is {means['loss']}, the gradient norm {grad_norm}",
            fix="The weights are those of the step before. Lower train.learning_rate, or try "
            "--set engine.precision=fp32.",
        )
    return {
        "step": update.step + 1,
        "epoch": (update.step + 1) * trainer.config.train.batch_pairs / len(trainer.pairs),
        **means,
        "grad_norm": grad_norm,
        "learning_rate": update.rate,
        "pairs": update.sums.pairs,
        "tokens": update.sums.tokens,
        "seconds": update.seconds,
        "peak_memory_bytes": peak_memory_bytes(trainer.model.device),
    }


def _select(reference: PairLogps | None, indices: list[int], device: str) -> PairLogps | None:
    return None if reference is None else reference.select(torch.tensor(indices), device)


def _check_first_loss(trainer: Trainer, prepared: _Prepared, sums: StepSums) -> None:
    """Before the first update policy and reference are one model; a loss that disagrees trains on nonsense."""
    if trainer.reference is None or trainer.config.model.reference is not None:  # of two models nothing is known
        return
    found, expected = sums.means()["loss"], _loss_of_reference(trainer, prepared)
    tolerance, largest = _GATE_TOLERANCE[trainer.model.precision], sums.largest_reward()
    if not math.isfinite(found):
        return  # no matter of the reference: the update refuses it and says so
    if abs(found - expected) <= tolerance * max(1.0, abs(expected)) and largest <= 10 * tolerance:
        return
    raise ModelError(
        f"the first loss is {found:.6f}, but policy and reference are one model, which gives {expected:.6f} "
        f"(largest reward {largest:.2g}, tolerance {10 * tolerance:.0g})",
        fix="Likely causes: a reference store of other weights or data (delete the store that the run's "
        "reference/store.json names), "
        "dropout that is still active, or an attention that does not fit this model "
        "(--set engine.prefix_sharing=false).",
    )


def _loss_of_reference(trainer: Trainer, prepared: _Prepared) -> float:
    """The step's loss if the policy's log-probabilities were the reference's."""
    reference = _select(trainer.reference, _order(prepared), trainer.model.device)
    assert reference is not None
    config, facts = trainer.config.objective, _step_facts(trainer, prepared, reference)
    if is_coupled(config):
        same = reference.mean() if uses_means(config) else reference
        without_wpo = step_statistics(config.model_copy(update={"wpo": False}), same, same, None)
        facts = replace(facts, statistics={**facts.statistics, **without_wpo})
    losses = pair_losses(config)(reference, reference, facts)
    return float((losses * facts.share).double().sum())
