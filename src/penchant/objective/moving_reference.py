"""A reference that follows the policy: TR-DPO, Gorbatovski et al. 2024 (arXiv:2404.09656), Eq. 3 and 4.

Only what is trained differs between policy and reference, so only that is kept twice. To score the reference the
two are exchanged for the time of a forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from penchant.batching.pair_batch import PairBatch
from penchant.objective.logps import PairLogps, joined_logps, pair_logps
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache, trunk_output


class MovingReference:
    """The reference of a run in which it moves; it begins as the policy.

    Args:
        model: The policy, as it is before the first step.
        share: Of the policy in the reference that a move gives: 1 copies it.
        every: Steps between moves.
        ld_alpha: See `penchant.objective.logps.beyond_shorter`.
    """

    def __init__(self, model: PairModel, *, share: float, every: int, ld_alpha: float | None = None) -> None:
        self.model, self.share, self.every, self.ld_alpha = model, share, every, ld_alpha
        self._trained = {name: p for name, p in model.model.named_parameters() if p.requires_grad}
        self._own = {name: p.detach().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def logps(self, parts: Sequence[tuple[Sequence[int], PairBatch]], cache: TrunkCache) -> PairLogps:
        """Return the reference's log-probabilities of the pairs of some micro-batches, in their order."""
        found = []
        with self._in_place():
            for indices, batch in parts:
                scored = self.model(batch, trunk_output(self.model, batch, indices, cache))
                found.append(pair_logps(scored, batch, self.ld_alpha))
        return joined_logps(found)

    @torch.no_grad()
    def after_step(self, steps_done: int) -> None:
        """Move towards the policy, if it is time."""
        if steps_done % self.every == 0:
            for name, own in self._own.items():
                own.lerp_(self._trained[name].detach().to(own.dtype), self.share)

    def state(self) -> dict[str, Tensor]:
        """Return its weights by name, for a checkpoint."""
        return self._own

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights that a checkpoint kept.

        Raises:
            ValueError: They are of another model.
        """
        if tensors.keys() != self._own.keys():
            raise ValueError("the reference in the checkpoint is of other weights than are trained now")
        for name, own in self._own.items():
            own.copy_(tensors[name])

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """The reference's weights where the policy's are."""
        mine = {name: parameter.data for name, parameter in self._trained.items()}
        try:
            for name, parameter in self._trained.items():
                parameter.data = self._own[name]
            yield
        finally:
            for name, parameter in self._trained.items():
                parameter.data = mine[name]
