"""The training loop. Read `train` first: gradients, update, and what the step before came to."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from penchant.objective.losses import LOSSES, pair_objective
from penchant.objective.metrics import StepSums
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache, trunk_output
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
        optimizer: AdamW over the trained parameters.
        trunk_cache: Outputs of the frozen layers, as far as they were kept.
        start_step: Optimizer steps already done, when resumed.
        prompts: The number of each pair's prompt, when prompts are what is shuffled.
        note: Hears one line about whatever had to be changed on the way.
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

    def __post_init__(self) -> None:
        self.micro_batch_tokens = self.config.engine.micro_batch_tokens

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return total_steps(self.config.train, len(self.pairs))


def make_optimizer(config: Config, model: PairModel) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) over what is trained; norms do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.train.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (config.train.adam_beta1, config.train.adam_beta2)
    return torch.optim.AdamW(groups, lr=config.train.learning_rate, betas=betas, fused=True)


def train(trainer: Trainer, on_step: Callable[[int, dict[str, float]], None]) -> None:
    """Run all steps that are left; `on_step(steps_done, metrics)` is called after each, before the next update.

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
                on_step(pending.step + 1, _read(trainer, pending))
            if prepared.step == 0:
                _check_first_loss(trainer.config, sums, trainer.model.precision)
            pending = _update(trainer, prepared.step, sums, seconds)
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
    return _Prepared(step, indices, parts, tokens)


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
    config, model = trainer.config, trainer.model
    sums = StepSums()
    for indices, batch in prepared.parts:
        reference = _select(trainer.reference, indices, model.device)
        weights = torch.full((len(indices),), 1 / len(prepared.indices), device=model.device)
        objective = pair_objective(config.objective, reference, weights)
        result = model.losses(batch, objective, trunk_output(model, batch, indices, trainer.trunk_cache))
        with compute_in(model.precision, model.device):
            result.total.backward()
        sums.add(result.losses, result.logps, reference, config=config.objective, tokens=batch.num_tokens)
    return sums


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
    limit = trainer.config.train.clip_norm or math.inf
    # AdamW's own kernel divides by one and obeys the other, as torch's GradScaler has it do
    optimizer.grad_scale, optimizer.found_inf = (grad_norm.float() / limit).clamp(min=1.0), refused
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


def _check_first_loss(config: Config, sums: StepSums, precision: str) -> None:
    """Before the first update policy and reference are one model; a loss that disagrees trains on nonsense."""
    expected = LOSSES[config.objective.loss].at_reference
    if expected is None:
        return
    found, tolerance = sums.means()["loss"], _GATE_TOLERANCE[precision]
    largest = sums.largest_reward()
    if not math.isfinite(found):
        return  # no matter of the reference: the update refuses it and says so
    if abs(found - expected) <= tolerance and largest <= 10 * tolerance:
        return
    raise ModelError(
        f"the first loss is {found:.6f}, but policy and reference are one model, which gives {expected:.6f} "
        f"(largest reward {largest:.2g}, tolerance {10 * tolerance:.0g})",
        fix="Likely causes: a reference store of other weights or data (delete the store that the run's "
        "reference/store.json names), "
        "dropout that is still active, or an attention that does not fit this model "
        "(--set engine.prefix_sharing=false).",
    )
