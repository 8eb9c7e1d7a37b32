"""Too little memory: the micro-batches shrink, the numbers stay, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import (
    Notes,
    pair_model,
    pair_rows,
    random_pairs,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.batching.pair_batch import PairBatch
from penchant.config import Config
from penchant.errors import UsageError
from penchant.models.memory import is_out_of_memory
from penchant.objective.head import PairLosses
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import reference_logps
from penchant.workflow.train import train_run

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    MemoryError(),
]


class Room:
    """Room for micro-batches of so many tokens; larger ones fail after their gradients were begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tokens: int, error: BaseException) -> None:
        self.tokens, self.seen = tokens, []  # type: ignore[var-annotated]
        forward = PairModel.forward

        def limited(model: PairModel, batch: PairBatch, *rest: Any, **how: Any) -> Any:
            result = forward(model, batch, *rest, **how)
            if not isinstance(result, PairLosses):
                return result
            if batch.num_tokens > self.tokens:
                result.total.backward()
                raise error
            self.seen.append(batch.num_tokens)
            return result

        monkeypatch.setattr(PairModel, "forward", limited)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(12))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return tiny_config(save_tiny(tmp_path / "start"), train={"max_steps": 4, "batch_pairs": 6})


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_run_goes_on_with_smaller_micro_batches_and_the_same_numbers(
    tmp_path: Path, data: Path, config: Config, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Gradients that were begun are not counted twice; one line says what changed."""
    whole = step_metrics(train_run(config, data, tmp_path / "whole").run)
    room = Room(monkeypatch, 250, error)
    notes = Notes()
    shrunk = step_metrics(train_run(config, data, tmp_path / "shrunk", reporter=notes).run)
    assert max(room.seen) <= 250
    assert any("Out of memory at step 1" in line for line in notes.lines)
    assert len(whole) == len(shrunk) == 4
    for one, other in zip(whole, shrunk, strict=True):
        for name in ("loss", "grad_norm", "logps/chosen", "logps/rejected"):
            assert one[name] == pytest.approx(other[name], rel=1e-6), name


def test_a_pair_that_never_fits_ends_the_run_with_a_remedy(
    tmp_path: Path, data: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No endless halving."""
    Room(monkeypatch, 1, MemoryError())
    with pytest.raises(UsageError, match=r"not even one pair of \d+ tokens fits") as caught:
        train_run(config, data, tmp_path / "run")
    assert "model.lora_rank" in str(caught.value)


def test_another_error_is_not_taken_for_it(
    tmp_path: Path, data: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the program stops the run at once."""
    room = Room(monkeypatch, 1, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train_run(config, data, tmp_path / "run")
    assert room.seen == []
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_the_reference_is_scored_in_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to single pairs; the values are those of one pass."""
    pairs, model = random_pairs(7, seed=5), pair_model(tiny_llama())
    expected = reference_logps(model, pairs, tmp_path / "one", micro_batch_tokens=1000).logps
    forward = PairModel.forward

    def limited(model: PairModel, batch: PairBatch, *rest: Any) -> Any:
        if len(batch.sizes) > 2:
            raise MemoryError
        return forward(model, batch, *rest)

    monkeypatch.setattr(PairModel, "forward", limited)
    found = reference_logps(model, pairs, tmp_path / "two", micro_batch_tokens=1000).logps
    assert torch.allclose(found.chosen, expected.chosen, rtol=1e-5)
    assert torch.allclose(found.rejected, expected.rejected, rtol=1e-5)
    assert torch.equal(found.chosen_tokens, expected.chosen_tokens)
