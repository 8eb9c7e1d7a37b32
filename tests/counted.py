"""How often a model ran: forward passes and passes through the frozen layers."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from penchant.batching.pair_batch import PairBatch
from penchant.objective.pair_model import PairModel


class Counted:
    """Counts the passes of every model, and how many sequences they held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._passes: list[int] = []
        self._trunks: list[int] = []
        forward, trunk = PairModel.forward, PairModel.trunk

        def counting(model: PairModel, batch: PairBatch, *rest: Any) -> Any:
            self._passes.append(batch.num_sequences)
            return forward(model, batch, *rest)

        def counting_trunk(model: PairModel, batch: PairBatch) -> Tensor:
            self._trunks.append(batch.num_sequences)
            return trunk(model, batch)

        monkeypatch.setattr(PairModel, "forward", counting)
        monkeypatch.setattr(PairModel, "trunk", counting_trunk)

    def passes(self) -> list[int]:
        """Sequences of every forward pass since this was last asked."""
        found, self._passes[:] = [*self._passes], []
        return found

    def trunks(self) -> list[int]:
        """Likewise for the frozen layers."""
        found, self._trunks[:] = [*self._trunks], []
        return found
