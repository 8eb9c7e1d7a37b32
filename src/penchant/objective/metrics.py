"""Sums and counts over the micro-batches of a step, so that any split gives the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from penchant.config import ObjectiveConfig
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import uses_means
from penchant.objective.losses import log_ratios
from penchant.processes import joined, largest, total, world_size

_SCORED = "scored tokens"


class StepSums:
    """What a step adds up on its device, in float64 where there is any; adding never waits for the device."""

    def __init__(self) -> None:
        self.pairs = 0
        self.tokens = 0
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}  # where not every pair counts
        self._largest: Tensor | None = None
        self._of_pairs: dict[str, list[Tensor]] = {}

    def add(
        self,
        losses: Tensor,
        policy: PairLogps,
        reference: PairLogps | None,
        *,
        config: ObjectiveConfig,
        tokens: int,
        desirable: Tensor | None = None,
    ) -> None:
        """Add a micro-batch.

        Args:
            losses: Shape (pairs,), without gradient.
            policy: Log-probabilities of each response, nats, without gradient.
            reference: Likewise; without it rewards are beta times the policy's own log-probabilities.
            config: Turns log-ratios into rewards: beta, and whether responses count by sum or by mean.
            tokens: Fed to the forward pass.
            desirable: For KTO, which responses are; shape (pairs,).
        """
        values = {"loss": losses, "logps/chosen": policy.chosen}
        if config.loss != "sft":
            values["logps/rejected"] = policy.rejected
        if config.logps == "tokens":
            values[_SCORED] = policy.chosen_tokens
        if config.nll_weight:
            values["nll"] = -policy.mean().chosen
        if config.loss != "sft":
            values |= self._rewards(policy, reference, config)
        self._of_pairs.setdefault("loss", []).append(losses)
        if desirable is not None:
            values = _by_label(values, desirable)
        for name, value in values.items():
            self._add(name, value)
        self.pairs += len(losses)
        self.tokens += tokens

    def _add(self, name: str, value: Tensor) -> None:
        value = value if value.device.type == "mps" else value.double()
        if name in _OF_SOME:
            self._counts[name] = (~value.isnan()).sum() + self._counts.get(name, 0)
            value = value.nan_to_num(nan=0.0)
        self._sums[name] = value.sum() + self._sums.get(name, 0)

    def _rewards(
        self, policy: PairLogps, reference: PairLogps | None, config: ObjectiveConfig
    ) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        if reference is not None:
            values["chosen_fell_fraction"] = (policy.chosen < reference.chosen).double()
        if uses_means(config):
            policy, reference = policy.mean(), reference.mean() if reference is not None else None
        chosen, rejected = policy.chosen, policy.rejected
        if reference is not None:
            chosen, rejected = log_ratios(policy, reference)
            self._of_pairs.setdefault("chosen_log_ratio", []).append(chosen)
            self._of_pairs.setdefault("rejected_log_ratio", []).append(rejected)
        chosen, rejected = config.beta * chosen, config.beta * rejected
        margins = chosen - rejected
        most = torch.cat([chosen, rejected]).abs().max()
        self._largest = most if self._largest is None else torch.maximum(self._largest, most)
        values |= {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": margins}
        return values | {"rewards/accuracies": wins(margins)}

    def exchange(self, pairs: Sequence[int]) -> None:
        """Add what the other processes have added; from then on each of them has the whole step.

        Args:
            pairs: How many pairs each process has added. They stand in the order of the processes afterwards.
        """
        if world_size() == 1:
            return
        counts = [torch.tensor(count, device=self.loss.device).double() for count in (self.pairs, self.tokens)]
        whole = total(torch.stack([*counts, *self._sums.values(), *(c.double() for c in self._counts.values())]))
        self.pairs, self.tokens = (int(count) for count in whole[:2].tolist())
        values = iter(whole[2:])
        self._sums = {name: next(values) for name in self._sums}
        self._counts = {name: next(values) for name in self._counts}
        self._of_pairs = {name: [joined(torch.cat(own), pairs)] for name, own in self._of_pairs.items()}
        if self._largest is not None:
            self._largest = largest(self._largest)

    @property
    def loss(self) -> Tensor:
        """Sum of the losses so far, a scalar on the device."""
        return self._sums["loss"]

    def means(self) -> dict[str, float]:
        """Return the means over pairs of what was added, in one transfer; the loss's over tokens where so set.

        Of KTO's figures those of a label are means over its responses, and missing where there were none.
        """
        sums = torch.stack(list(self._sums.values())).tolist()
        counts = torch.stack(list(self._counts.values())).tolist() if self._counts else []
        of_some = dict(zip(self._counts, counts, strict=True))
        found = {
            name: value / of_some.get(name, self.pairs)
            for name, value in zip(self._sums, sums, strict=True)
            if of_some.get(name, self.pairs)
        }
        if "rewards/desirable" in found and "rewards/undesirable" in found:
            found["rewards/margins"] = found["rewards/desirable"] - found["rewards/undesirable"]
        if scored := found.pop(_SCORED, None):
            found["loss"] /= scored
        return found

    def pair_figures(self) -> dict[str, list[float]]:
        """Return each pair's own figures in the order in which they were added, in one transfer.

        `loss`, and with a reference `chosen_log_ratio` and `rejected_log_ratio`: policy - reference in nats, or
        in nats per token where the loss takes means.
        """
        names = list(self._of_pairs)
        values = torch.stack([torch.cat(self._of_pairs[name]).float() for name in names]).tolist()
        return dict(zip(names, values, strict=True))

    def largest_reward(self) -> float:
        """Return the largest reward of either response, without its sign; 0 when there are none."""
        return 0.0 if self._largest is None else float(self._largest)


_OF_SOME = (
    "chosen_fell_fraction",
    "rewards/desirable",
    "rewards/undesirable",
    "logps/desirable",
    "logps/undesirable",
)


def _by_label(values: dict[str, Tensor], desirable: Tensor) -> dict[str, Tensor]:
    """KTO's figures: of desirable and of undesirable responses apart, nan where a response is not of the kind."""
    nothing = torch.full_like(values["loss"], float("nan"))
    found = {"loss": values["loss"]}
    found["chosen_fell_fraction"] = torch.where(desirable, values["chosen_fell_fraction"], nothing)
    for what in ("rewards", "logps"):
        own = values[f"{what}/chosen"]
        found[f"{what}/desirable"] = torch.where(desirable, own, nothing)
        found[f"{what}/undesirable"] = torch.where(desirable, nothing, own)
    return found


def wins(margins: Tensor) -> Tensor:
    """Return 1 where a margin is positive, 1/2 where it is zero, and 0 elsewhere."""
    return (margins > 0).double() + 0.5 * (margins == 0).double()
