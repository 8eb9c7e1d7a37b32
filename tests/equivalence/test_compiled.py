"""Compiled layers against plain ones: the same numbers, and one compilation for many lengths."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import pytest
import torch
from tests.tiny import PAD, gradients, largest_difference, random_ids, tiny_family
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from penchant.batching.pair_batch import Group
from penchant.models.compiled import compiled_part
from penchant.models.freeze import choose_trainable
from penchant.objective import pair_model
from penchant.objective.pair_model import PairModel

# the compiler itself warns of what it does
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def microbatches(count: int) -> list[list[Group]]:
    """Pairs of many lengths; they fill one to four buckets."""
    coin = random.Random(0)
    return [
        [
            Group(random_ids(coin, 10, 60), (random_ids(coin, 5, 40), random_ids(coin, 5, 40)))
            for _ in range(coin.randint(2, 12))
        ]
        for _ in range(count)
    ]


def numbers(name: str, *, compiled: bool, checkpointing: bool) -> Iterator[tuple[int, Tensor, dict[str, Tensor]]]:
    """Length, log-probabilities and gradients of one micro-batch after the other.

    Of a trunk, three layers above it and a pruned one; scored before without gradients, as a reference is.
    """
    model = tiny_family(name, layers=6)
    frozen = choose_trainable(model, 4).frozen_layers
    scorer = PairModel(
        model,
        trunk_layers=frozen,
        prefix_sharing=True,
        precision="fp32",
        pad_id=PAD,
        checkpointing=checkpointing,
        compiled=compiled,
    )
    for groups in microbatches(20):
        batch = scorer.collate(groups)
        with torch.no_grad():
            scorer(batch)
        logps = scorer(batch)
        yield batch.num_tokens, logps.detach(), gradients(model, logps)


@pytest.mark.parametrize(
    ("name", "backend", "checkpointing"),
    [
        ("Llama", "inductor", False),
        ("Llama", "inductor", True),
        ("Qwen3", "aot_eager", False),
        ("Phi3", "aot_eager", True),
        ("Mixtral", "aot_eager", False),
    ],
)
def test_twenty_lengths_are_compiled_as_one(
    monkeypatch: pytest.MonkeyPatch, name: str, backend: str, checkpointing: bool
) -> None:
    """The graphs of the first length serve all layers and all lengths. Inductor needs a C++ compiler."""
    counter = CompileCounterWithBackend(backend)
    monkeypatch.setattr(pair_model, "compiled_part", functools.partial(compiled_part, backend=counter))
    plain = numbers(name, compiled=False, checkpointing=False)
    graphs, lengths = [], set()
    for found, expected in zip(numbers(name, compiled=True, checkpointing=checkpointing), plain, strict=True):
        lengths.add(found[0])
        graphs.append(counter.frame_count)
        assert largest_difference(found[1], expected[1]) <= 1e-5
        assert found[2].keys() == expected[2].keys()
        for key, slope in expected[2].items():
            assert largest_difference(found[2][key], slope) <= 1e-4, key
    assert len(lengths) > 15
    # the trunk's layers; trained ones with and without gradients; the lowest of these, whose input has none
    assert 0 < graphs[0] <= 40
    assert set(graphs) == {graphs[0]}
