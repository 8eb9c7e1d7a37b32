"""What stops a run before hours are spent: a first loss that cannot be, and a policy that stays its reference."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from penchant.errors import ModelError
from penchant.objective.kept_weights import scored_logps
from penchant.objective.logps import PairLogps, of_all_processes
from penchant.objective.loss_table import pair_losses, uses_means
from penchant.objective.metrics import StepSums
from penchant.objective.pair_facts import is_coupled, step_statistics
from penchant.processes import rank, total
from penchant.training.parallel import own_part
from penchant.training.step import Prepared, Trainer, facts_of_step, stored_reference

# How far the first loss may lie from its value at policy == reference. Both were computed in the same layout,
# so the distance is zero unless a stored reference was scored in another order (fp32 only).
_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-3}
# Steps after an update without any difference between policy and reference before the run is stopped. One could
# be chance where a small learning rate warms up; in this many, no token of any pair would have moved by one bit.
_PATIENCE = 5


def check_first_loss(trainer: Trainer, prepared: Prepared, sums: StepSums) -> None:
    """Stop where the first loss is not the one of policy == reference: such a run would train on nonsense.

    Raises:
        ModelError: It is not, with the likely cause.
    """
    if trainer.reference is None or trainer.config.model.reference is not None:  # of two models nothing is known
        return
    found, expected = sums.means()["loss"], _loss_of_reference(trainer, prepared)
    tolerance, largest = _TOLERANCE[trainer.model.precision], sums.largest_reward()
    if not math.isfinite(found):
        return  # no matter of the reference: the update refuses it and says so
    if abs(found - expected) <= tolerance * max(1.0, abs(expected)) and largest <= 10 * tolerance:
        return
    cause, fix = _likely_cause(trainer, prepared)
    raise ModelError(
        f"the first loss is {found:.6f}, but policy and reference are one model, which gives {expected:.6f} "
        f"(largest reward {largest:.2g}, tolerance {10 * tolerance:.0g}): {cause}",
        fix=fix,
    )


def _loss_of_reference(trainer: Trainer, prepared: Prepared) -> float:
    """The step's loss if the policy's log-probabilities were the reference's."""
    reference = stored_reference(trainer, prepared)
    assert reference is not None
    config, facts = trainer.config.objective, facts_of_step(trainer, prepared, reference)
    if is_coupled(config):
        same = reference.mean() if uses_means(config) else reference
        known = of_all_processes(same, prepared.pairs)
        without_wpo = step_statistics(config.model_copy(update={"wpo": False}), known, known, None)
        own = slice(sum(prepared.pairs[: rank()]), sum(prepared.pairs[: rank() + 1]))
        facts = replace(facts, statistics={**facts.statistics, **{n: v[own] for n, v in without_wpo.items()}})
    losses = pair_losses(config)(reference, reference, facts)
    return float(total((losses * facts.share).double().sum()))


def _likely_cause(trainer: Trainer, prepared: Prepared) -> tuple[str, str]:
    """What is wrong, and what to do: found by scoring the first micro-batch again, twice, without gradient."""
    first, second = _scored_again(trainer, prepared), _scored_again(trainer, prepared)
    stored = stored_reference(trainer, prepared)
    assert stored is not None
    tolerance = _TOLERANCE[trainer.model.precision] * 10 / trainer.config.objective.beta
    if _distance(first, second) > tolerance:
        active = _active_dropout(trainer)
        return (
            "scored twice, the same pairs get different log-probabilities"
            + (f", and dropout is active in {', '.join(active)}" if active else ""),
            "Set the dropout of the model to 0." if active else "Look for a layer that draws random numbers.",
        )
    if _distance(first, stored.select(torch.arange(len(first.chosen)))) > tolerance:
        return (
            f"scored again, the pairs have other log-probabilities ({trainer.model.precision}) than the reference "
            "holds for them, so it was scored with other weights, another adapter, precision or chat template",
            "Delete the store that the run's reference/store.json names, and start again.",
        )
    return (
        "without gradients the pairs do have the reference's log-probabilities, so the pass with gradients "
        f"computes something else ({trainer.model.precision}, attention {trainer.model.attention})",
        "Try --set engine.prefix_sharing=false, or --set engine.precision=fp32.",
    )


def _scored_again(trainer: Trainer, prepared: Prepared) -> PairLogps:
    ld_alpha = trainer.config.objective.ld_alpha
    return scored_logps(trainer.model, prepared.parts[:1], trainer.trunk_cache, ld_alpha)


def _distance(ours: PairLogps, theirs: PairLogps) -> float:
    """The largest difference of two log-probabilities of a response, nats."""
    sides = ((ours.chosen, theirs.chosen), (ours.rejected, theirs.rejected))
    return max(float((a.cpu() - b.cpu()).abs().max()) for a, b in sides)


def _active_dropout(trainer: Trainer) -> list[str]:
    modules = trainer.model.model.named_modules()
    return [name for name, module in modules if module.training and getattr(module, "p", 0.0)][:3]


class SameWeightsGuard:
    """Stops a run whose policy is still its own reference, bit for bit, though it was updated.

    Args:
        trainer: Before its first step.
    """

    def __init__(self, trainer: Trainer) -> None:
        moving = trainer.moving
        follows = moving is not None and moving.share == 1.0 and moving.every == 1  # by wish, at every step
        self._active = trainer.reference is not None and not follows
        self._parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
        self._before = [_first(parameter) for parameter in self._parameters]
        self._updated, self._without = False, 0

    def hear(self, step: int, *, largest_reward: float, rate: float, grad_norm: float) -> None:
        """Take in a step's figures.

        Args:
            step: Its number, from 1.
            largest_reward: Of either response of any pair, measured before the step's update.
            rate: Learning rate of the step's update.
            grad_norm: Norm of its gradient.

        Raises:
            ModelError: There was no difference in several steps after an update.
        """
        if self._active and self._updated:
            self._without = self._without + 1 if largest_reward == 0.0 else 0
            if self._without >= _PATIENCE:
                raise ModelError(f"step {step}: {self._cause(rate, grad_norm)}", fix=self._fix(grad_norm))
        self._updated = self._updated or rate > 0.0

    def _cause(self, rate: float, grad_norm: float) -> str:
        what = f"in {_PATIENCE} steps after an update policy and reference agree to the last bit"
        if grad_norm == 0.0:
            return f"{what}, and the gradient is zero"
        if self._moved():
            return f"{what}, though the trained weights have changed: they are the reference's weights too"
        return f"{what}: the optimizer changes no weight (learning rate {rate:.2g}, gradient norm {grad_norm:.2g})"

    def _fix(self, grad_norm: float) -> str:
        if grad_norm == 0.0:
            return "Look whether what is trained (model.train, model.last_layers, adapters) reaches the loss."
        if self._moved():
            return "Give policy and reference weights of their own, as `penchant train` does."
        return "Raise train.learning_rate; below a weight's rounding error an update is lost."

    def _moved(self) -> bool:
        now = [_first(parameter) for parameter in self._parameters]
        return any(not torch.equal(a, b) for a, b in zip(now, self._before, strict=True))


def _first(parameter: Tensor) -> Tensor:
    """Some of a parameter's numbers, of its shard where it is in shards."""
    return own_part(parameter.detach()).flatten()[:64].clone()
