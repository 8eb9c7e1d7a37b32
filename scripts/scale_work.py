"""How much work a pair is: operations, numbers that pass through memory, bytes in the stores. Arithmetic only.

Operations are those of `bench.flops`. What they leave out (norms, rotations, the activation function, additions)
is counted in elements: what the linear layers of a decoder layer read and write, once for a forward pass and three
times for a training step. Lengths come as triples (prompt, chosen, rejected) in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from bench.flops import Sizes, useful
from bench.work import LORA_RANK

from penchant.types import TokenizedPair

Lengths = tuple[tuple[int, int, int], ...]

PARTS = ("full", "last5", "lora")
LAST_LAYERS = 5
FP32, BF16 = 4, 2
KEY_BYTES, COUNT_BYTES = 32, 8  # of a pair in a shard of the reference's store, beside 4 bytes a scored token
SHARD_PAIRS, SHARD_HEADER_BYTES = 2048, 350
ENTRY_HEADER_BYTES = 64  # of a pair in the trunk's store
_BACKWARD_TOO = 3  # forward, gradient of the inputs, gradient of the weights
_LAYER_SCALE = 0.05  # a model within so much of a known one is taken to be that one


@dataclass(frozen=True)
class Model:
    """A decoder's shape.

    Attributes:
        name: What people call it.
        sizes: Of its layers and its vocabulary.
        tied: Whether head and embedding are one matrix.
    """

    name: str
    sizes: Sizes
    tied: bool

    @property
    def layer(self) -> int:
        """Parameters of a layer's linear maps."""
        return sum(inputs * outputs for inputs, outputs in _maps(self.sizes))

    @property
    def head(self) -> int:
        """Parameters of the head."""
        return self.sizes.vocabulary * self.sizes.width

    @property
    def parameters(self) -> int:
        """All parameters but those of the norms."""
        return self.sizes.layers * self.layer + self.head * (1 if self.tied else 2)

    def upper_layers(self, part: str) -> int:
        """Layers that gradients pass through."""
        return min(LAST_LAYERS, self.sizes.layers) if part == "last5" else self.sizes.layers

    def trained(self, part: str) -> int:
        """Trained parameters; an untied head's copy is one of them."""
        if part == "full":
            return self.parameters
        if part == "last5":
            return self.upper_layers(part) * self.layer + self.head
        return self.sizes.layers * LORA_RANK * sum(sum(one) for one in _maps(self.sizes))


MODELS = tuple(
    Model(name, Sizes(*sizes), tied)
    for name, tied, sizes in (
        ("SmolLM2-135M", True, (576, 30, 576, 192, 1536, 49152)),
        ("SmolLM2-360M", True, (960, 32, 960, 320, 2560, 49152)),
        ("Qwen3-0.6B", True, (1024, 28, 2048, 1024, 3072, 151936)),
        ("Qwen3-1.7B", True, (2048, 28, 2048, 1024, 6144, 151936)),
        ("Qwen3-4B", True, (2560, 36, 4096, 1024, 9728, 151936)),
        ("Llama-3.1-8B", False, (4096, 32, 4096, 1024, 14336, 128256)),
        ("Qwen3-14B", False, (5120, 40, 5120, 1024, 17408, 151936)),
        ("Qwen3-32B", False, (5120, 64, 8192, 1024, 25600, 151936)),
        ("Llama-3.1-70B", False, (8192, 80, 8192, 1024, 28672, 128256)),
    )
)


def model_of(parameters: float) -> Model:
    """Return the known model of about so many parameters, or the nearest one with more or fewer layers."""
    near = min(MODELS, key=lambda model: abs(math.log(model.parameters / parameters)))
    if abs(math.log(near.parameters / parameters)) < _LAYER_SCALE:
        return near
    others = near.parameters - near.sizes.layers * near.layer
    layers = max(1, round((parameters - others) / near.layer))
    return Model(f"{near.name} with {layers} layers", replace(near.sizes, layers=layers), near.tied)


@dataclass(frozen=True)
class Load:
    """Work: operations in the layers and in the head, and elements that pass through memory."""

    layers: float
    head: float
    elements: float

    def __add__(self, other: Load) -> Load:
        return Load(self.layers + other.layers, self.head + other.head, self.elements + other.elements)

    def __mul__(self, times: float) -> Load:
        return Load(self.layers * times, self.head * times, self.elements * times)


@dataclass(frozen=True)
class PairLoads:
    """The mean pair's work.

    Attributes:
        reference: All layers and the head, forward.
        trunk: Of it the frozen layers.
        step: The layers above and the head, forward and backward.
        again: The layers above, forward once more, as activation checkpointing does.
    """

    reference: Load
    trunk: Load
    step: Load
    again: Load


@cache
def pair_loads(model: Model, part: str, lengths: Lengths) -> PairLoads:
    """Return the work of the mean pair of some lengths."""
    pairs, count = [_pair(*each) for each in lengths], len(lengths)
    once, epoch = useful(pairs, model.sizes, part)
    upper = replace(model.sizes, layers=model.upper_layers(part))
    again, _ = useful(pairs, upper, "full")
    positions = sum(map(_positions, lengths))
    lower = model.sizes.layers - upper.layers
    forward = _elements(model.sizes)
    # frozen weights have no gradient, and an adapter is one more linear layer with the same inputs and outputs
    passes = 2 + _BACKWARD_TOO if part == "lora" else _BACKWARD_TOO
    return PairLoads(
        reference=Load(once.layers, once.head, forward * model.sizes.layers * positions) * (1 / count),
        trunk=Load(once.layers - again.layers, 0, forward * lower * positions) * (1 / count),
        step=Load(epoch.layers, epoch.head, passes * forward * upper.layers * positions) * (1 / count),
        again=Load(again.layers, 0, forward * upper.layers * positions) * (1 / count),
    )


def mean_tokens(lengths: Lengths) -> float:
    """Return the tokens of a pair that the layers see, the prompt once."""
    return sum(map(_positions, lengths)) / len(lengths)


def mean_scored(lengths: Lengths) -> float:
    """Return the scored tokens of a pair, both responses."""
    return sum(chosen + rejected for _, chosen, rejected in lengths) / len(lengths)


def reference_store_bytes(lengths: Lengths, pairs: float) -> float:
    """Return the bytes of so many pairs in the reference's store."""
    each = KEY_BYTES + COUNT_BYTES + FP32 * mean_scored(lengths)
    return pairs * each + math.ceil(pairs / SHARD_PAIRS) * SHARD_HEADER_BYTES


def trunk_store_bytes(model: Model, lengths: Lengths) -> float:
    """Return the bytes of the mean pair in the store of the frozen layers' outputs."""
    return ENTRY_HEADER_BYTES + FP32 * model.sizes.width * mean_tokens(lengths)


def saved_bytes(model: Model, *, bf16: bool) -> float:
    """Return the bytes of a token that a trained layer keeps for its backward pass.

    About what its linear layers read and write. In bf16 these are halves, and the residual stream stays fp32.
    """
    elements = _elements(model.sizes)
    return BF16 * elements + 2 * FP32 * model.sizes.width if bf16 else FP32 * elements


def _maps(sizes: Sizes) -> tuple[tuple[int, int], ...]:
    return (*sizes.linears, *sizes.key_values)


def _elements(sizes: Sizes) -> int:
    """What the linear maps of a layer read and write for a token."""
    return sum(sum(one) for one in _maps(sizes))


def _positions(lengths: Sequence[int]) -> int:
    prompt, chosen, rejected = lengths
    return prompt + chosen - 1 + max(0, rejected - 1)


@cache
def _pair(prompt: int, chosen: int, rejected: int) -> TokenizedPair:
    """A pair of these lengths whose responses begin differently."""
    return TokenizedPair("", (0,) * prompt, (1,) * chosen, (2,) * rejected)
