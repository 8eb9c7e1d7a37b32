"""Sums and counts over the micro-batches of a step, so that any split gives the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from penchant.config import ObjectiveConfig
from penchant.objective.logps import PairLogps
from penchant.objective.losses import margin


@dataclass
class StepSums:
    """What a step adds up: float64 sums over pairs, and the pairs and tokens seen."""

    pairs: int = 0
    tokens: int = 0
    largest_reward: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

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
            losses: Shape (pairs,).
            policy: Sums over each response, nats.
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
            largest = torch.stack([chosen.abs().max(), rejected.abs().max()]).max()
            self.largest_reward = max(self.largest_reward, float(largest.detach()))
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach().double().sum())
        self.pairs += len(losses)
        self.tokens += tokens

    def means(self) -> dict[str, float]:
        """Return the mean over pairs of everything added."""
        return {name: value / self.pairs for name, value in self.sums.items()}


def wins(margins: Tensor) -> Tensor:
    """Return 1 where a margin is positive, 1/2 where it is zero, and 0 elsewhere."""
    return (margins > 0).double() + 0.5 * (margins == 0).double()
