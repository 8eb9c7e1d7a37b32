"""The training loop. Read `_step` first: it is the whole of an optimizer step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penchant.batching.packing import in_last_epoch, split_by_tokens, step_indices
from penchant.batching.pair_batch import pair_group
from penchant.config import Config
from penchant.errors import ModelError, NotFiniteError
from penchant.objective.logps import PairLogps, pair_logps
from penchant.objective.losses import LOSSES, pair_losses
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
    """

    config: Config
    model: PairModel
    pairs: Sequence[TokenizedPair]
    reference: PairLogps | None
    optimizer: torch.optim.Optimizer
    trunk_cache: TrunkCache
    start_step: int = 0

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
    """Run all steps that are left; `on_step(steps_done, metrics)` is called after each.

    Raises:
        ModelError: The first loss is not what policy == reference must give.
        NotFiniteError: A loss or gradient is not finite; the weights are those of the step before.
    """
    for step in range(trainer.start_step, trainer.total_steps):
        on_step(step + 1, _step(trainer, step))


def _step(trainer: Trainer, step: int) -> dict[str, float]:
    config, model = trainer.config, trainer.model
    started = time.perf_counter()
    indices = step_indices(step, count=len(trainer.pairs), batch=config.train.batch_pairs, seed=config.train.seed)
    groups = [pair_group(trainer.pairs[index]) for index in indices]
    losses_of = pair_losses(config.objective)
    sums = StepSums()
    parts = split_by_tokens([group.num_packed_tokens for group in groups], config.engine.micro_batch_tokens)
    for part in parts:
        chunk = [indices[position] for position in part]
        batch = model.collate([groups[position] for position in part])
        policy = pair_logps(model(batch, trunk_output(model, batch, chunk, trainer.trunk_cache)), batch)
        reference = _select(trainer.reference, chunk, policy.chosen.device)
        losses = losses_of(policy, reference)
        (losses.sum() / len(indices)).backward()
        sums.add(losses, policy, reference, config=config.objective, tokens=batch.num_tokens)
        if in_last_epoch(
            step, steps=trainer.total_steps, count=len(trainer.pairs), batch=config.train.batch_pairs
        ):
            trainer.trunk_cache.drop(chunk)
    if step == 0:
        _check_first_loss(config, sums, model.precision)
    rate = learning_rate(config.train, step, trainer.total_steps)
    grad_norm = _update(trainer, rate, sums, step)
    return {
        "step": step + 1,
        "epoch": (step + 1) * config.train.batch_pairs / len(trainer.pairs),
        **sums.means(),
        "grad_norm": grad_norm,
        "learning_rate": rate,
        "pairs": sums.pairs,
        "tokens": sums.tokens,
        "seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(model.device),
    }


def _update(trainer: Trainer, rate: float, sums: StepSums, step: int) -> float:
    parameters = [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]
    limit = trainer.config.train.clip_norm or math.inf
    grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
    if not (math.isfinite(grad_norm) and math.isfinite(sums.means()["loss"])):
        raise NotFiniteError(
            f"step {step + 1}: the loss is {sums.means()['loss']}, the gradient norm {grad_norm}",
            fix="The weights are those of the step before. Lower train.learning_rate, or try "
            "--set engine.precision=fp32.",
        )
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    return grad_norm


def _select(reference: PairLogps | None, indices: list[int], device: torch.device) -> PairLogps | None:
    if reference is None:
        return None
    rows = torch.tensor(indices)

    def pick(values: Tensor) -> Tensor:
        return values[rows].to(device)

    return PairLogps(
        pick(reference.chosen),
        pick(reference.rejected),
        pick(reference.chosen_tokens),
        pick(reference.rejected_tokens),
    )


def _check_first_loss(config: Config, sums: StepSums, precision: str) -> None:
    """Before the first update policy and reference are one model; a loss that disagrees trains on nonsense."""
    expected = LOSSES[config.objective.loss].at_reference
    if expected is None:
        return
    found, tolerance = sums.means()["loss"], _GATE_TOLERANCE[precision]
    if not math.isfinite(found):
        return  # no matter of the reference: the update refuses it and says so
    if abs(found - expected) <= tolerance and sums.largest_reward <= 10 * tolerance:
        return
    raise ModelError(
        f"the first loss is {found:.6f}, but policy and reference are one model, which gives {expected:.6f} "
        f"(largest reward {sums.largest_reward:.2g}, tolerance {10 * tolerance:.0g})",
        fix="Likely causes: a reference store of other weights or data (delete the run's reference folder), "
        "dropout that is still active, or an attention that does not fit this model "
        "(--set engine.prefix_sharing=false).",
    )
