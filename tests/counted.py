"""How often a model ran: forward passes and passes through the frozen layers."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.batching.pair_batch import PairBatch
from penchant.objective.pair_model import PairModel


class Counted:
    """Counts the passes of every model, and how many sequences they held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._passes: list[int] = []
        self._trunks: list[int] = []
        forward = PairModel.forward

        def counting(model: PairModel, batch: PairBatch, *rest: Any, ask: Any = "scores") -> Any:
            (self._trunks if ask == "trunk" else self._passes).append(batch.num_sequences)
            return forward(model, batch, *rest, ask=ask)

        monkeypatch.setattr(PairModel, "forward", counting)

    def passes(self) -> list[int]:
        """Sequences of every forward pass since this was last asked."""
        found, self._passes[:] = [*self._passes], []
        return found

    def trunks(self) -> list[int]:
        """Likewise for the frozen layers."""
        found, self._trunks[:] = [*self._trunks], []
        return found
