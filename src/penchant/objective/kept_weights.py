"""The trained weights as they once were: all in which a run's reference differs from its policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from penchant.batching.pair_batch import PairBatch
from penchant.objective.even_passes import evenly
from penchant.objective.logps import PairLogps, joined_logps, pair_logps
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache, trunk_output


class KeptWeights:
    """A copy of what is trained, as it is now; what is frozen is not kept twice.

    Attributes:
        tensors: The copies by the names of their parameters.
    """

    def __init__(self, model: PairModel) -> None:
        self.model = model
        self.trained = {name: p for name, p in model.model.named_parameters() if p.requires_grad}
        self.tensors: dict[str, Tensor] = {name: p.detach().clone() for name, p in self.trained.items()}

    @torch.no_grad()
    def logps(
        self,
        parts: Sequence[tuple[Sequence[int], PairBatch]],
        cache: TrunkCache,
        ld_alpha: float | None = None,
        passes: int | None = None,
    ) -> PairLogps:
        """Return log-probabilities under these weights of the pairs of some micro-batches, in their order.

        See `penchant.objective.even_passes.evenly` for `passes`.
        """
        with self.in_place():
            return scored_logps(self.model, parts, cache, ld_alpha, passes)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """These weights where the policy's are."""
        if self.model.sharded:
            with self._copied_in():
                yield
            return
        mine = {name: parameter.data for name, parameter in self.trained.items()}
        try:
            for name, parameter in self.trained.items():
                parameter.data = self.tensors[name]
            yield
        finally:
            for name, parameter in self.trained.items():
                parameter.data = mine[name]

    @contextlib.contextmanager
    def _copied_in(self) -> Iterator[None]:
        """Weights are gathered from where their shards lie, so the shards change and not what points to them."""
        mine = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        try:
            self._put(self.tensors)
            yield
        finally:
            self._put(mine)

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.trained.items():
            parameter.copy_(tensors[name])


@torch.no_grad()
def scored_logps(
    model: PairModel,
    parts: Sequence[tuple[Sequence[int], PairBatch]],
    cache: TrunkCache,
    ld_alpha: float | None = None,
    passes: int | None = None,
) -> PairLogps:
    """Return log-probabilities under the model as it is of the pairs of some micro-batches, in their order.

    See `penchant.objective.even_passes.evenly` for `passes`.
    """
    found = []
    for (indices, batch), wanted in evenly(model, parts, passes):
        scored = model(batch, trunk_output(model, batch, indices, cache))
        if wanted:
            found.append(pair_logps(scored, batch, ld_alpha))
    return joined_logps(found)
