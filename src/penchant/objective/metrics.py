"""Sums and counts over the micro-batches of a step, so that any split gives the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from penchant.config import ObjectiveConfig
from penchant.objective.logps import PairLogps
from penchant.objective.losses import margin


class StepSums:
    """What a step adds up on its device, in float64 where there is any; adding never waits for the device."""

    def __init__(self) -> None:
        self.pairs = 0
        self.tokens = 0
        self._sums: dict[str, Tensor] = {}
        self._largest: Tensor | None = None

    def add(
        self,
        losses: Tensor,
        policy: PairLogps,
        reference: PairLogps | None,
        *,
        config: ObjectiveConfig,
        tokens: int,
    ) -> None:
        """Add a micro-batch.

        Args:
            losses: Shape (pairs,), without gradient.
            policy: Sums over each response, nats, without gradient.
            reference: Likewise; without it there are no rewards.
            config: Turns log-ratios into rewards: beta, and whether responses count by sum or by mean.
            tokens: Fed to the forward pass.
        """
        values = {"loss": losses, "logps/chosen": policy.chosen, "logps/rejected": policy.rejected}
        if reference is not None:
            beta = config.beta
            if config.logps == "mean":
                policy, reference = policy.mean(), reference.mean()
            chosen = beta * (policy.chosen - reference.chosen)
            rejected = beta * (policy.rejected - reference.rejected)
            values |= {"rewards/chosen": chosen, "rewards/rejected": rejected}
            values["rewards/margins"] = beta * margin(policy, reference)
            values["rewards/accuracies"] = wins(values["rewards/margins"])
            largest = torch.cat([chosen, rejected]).abs().max()
            self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        for name, value in values.items():
            total = (value if value.device.type == "mps" else value.double()).sum()
            self._sums[name] = total if name not in self._sums else self._sums[name] + total
        self.pairs += len(losses)
        self.tokens += tokens

    @property
    def loss(self) -> Tensor:
        """Sum of the losses so far, a scalar on the device."""
        return self._sums["loss"]

    def means(self) -> dict[str, float]:
        """Return the mean over pairs of everything added, in one transfer."""
        values = torch.stack(list(self._sums.values())).tolist()
        return {name: value / self.pairs for name, value in zip(self._sums, values, strict=True)}

    def largest_reward(self) -> float:
        """Return the largest reward of either response, without its sign; 0 without a reference."""
        return 0.0 if self._largest is None else float(self._largest)


def wins(margins: Tensor) -> Tensor:
    """Return 1 where a margin is positive, 1/2 where it is zero, and 0 elsewhere."""
    return (margins > 0).double() + 0.5 * (margins == 0).double()
