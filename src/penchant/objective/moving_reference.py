"""A reference that follows the policy: TR-DPO, Gorbatovski et al. 2024 (arXiv:2404.09656), Eq. 3 and 4.

Only what is trained differs between policy and reference, so only that is kept twice. To score the reference the
two are exchanged for the time of a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from penchant.batching.pair_batch import PairBatch
from penchant.objective.kept_weights import KeptWeights
from penchant.objective.logps import PairLogps
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache


class MovingReference:
    """The reference of a run in which it moves; it begins as the policy.

    Args:
        model: The policy, as it is before the first step.
        share: Of the policy in the reference that a move gives: 1 copies it.
        every: Steps between moves.
        ld_alpha: See `penchant.objective.logps.beyond_shorter`.
    """

    def __init__(self, model: PairModel, *, share: float, every: int, ld_alpha: float | None = None) -> None:
        self.share, self.every, self.ld_alpha = share, every, ld_alpha
        self._own = KeptWeights(model)

    def logps(
        self, parts: Sequence[tuple[Sequence[int], PairBatch]], cache: TrunkCache, passes: int | None = None
    ) -> PairLogps:
        """Return the reference's log-probabilities of the pairs of some micro-batches, in their order.

        See `penchant.objective.even_passes.evenly` for `passes`.
        """
        return self._own.logps(parts, cache, self.ld_alpha, passes)

    @torch.no_grad()
    def after_step(self, steps_done: int) -> None:
        """Move towards the policy, if it is time."""
        if steps_done % self.every == 0:
            for name, own in self._own.tensors.items():
                own.lerp_(self._own.trained[name].detach().to(own.dtype), self.share)

    def state(self) -> dict[str, Tensor]:
        """Return its weights by name: what a checkpoint holds, and what is filled from one."""
        return self._own.tensors
