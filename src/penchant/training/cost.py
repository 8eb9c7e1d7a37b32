"""What a run costs, by formula: how much work its micro-batches are, and from unit costs to seconds and bytes.

Unit costs are measured elsewhere; nothing here computes anything on a device. For a pair with a shared prefix of S
fed tokens and rests of a and b, tri(n) = n (n + 1) / 2:

* tokens t = S + a + b, and query-key pairs p = tri(S) + a S + tri(a) + b S + tri(b);
* a layer's work, in tokens: t + p (2 w) / (layer parameters), w = query heads x head size, since its linear maps
  take 2 operations a weight and token, and attention 4 w for each of the p;
* the head's work is that of its scored rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penchant.batching.pair_batch import Group, common_prefix_length
from penchant.models.sizes import ModelSizes

FP32 = 4
# What optimizers keep of every trained parameter: its name and bytes. Moments of 8 bits lie in blocks of 256, each
# with a scale in fp32.
OPTIMIZER_STATE: dict[str, tuple[str, float]] = {
    "adamw": ("AdamW's moments", 2 * FP32),
    "rmsprop": ("RMSprop's mean squares", FP32),
    "adamw_8bit": ("AdamW's moments (8 bits)", 2 * (1 + FP32 / 256)),
}
# A weight in 4 bits; each block of 64 has a scale of 8 bits, and 256 of these scales one in fp32.
FOUR_BIT = 1 / 2 + 1 / 64 + FP32 / (64 * 256)


@dataclass(frozen=True)
class Load:
    """How much work a micro-batch is.

    Attributes:
        tokens: Fed to the layers, padding included.
        looks: Query-key pairs of attention, a head and layer.
        rows: Scored tokens.
    """

    tokens: int
    looks: int
    rows: int

    def layer_tokens(self, sizes: ModelSizes) -> float:
        """Return the work of a layer in tokens without attention."""
        return self.tokens + self.looks * 2 * sizes.attention_width / sizes.layer


def micro_batch_load(groups: Sequence[Group], *, packed: bool) -> Load:
    """Return the load of some groups in one pass, packed or as padded rows.

    A prompt that several groups share is counted once in `tokens`; in `looks` it stays counted for each.
    """
    fed = [group.fed() for group in groups]
    rows = sum(len(places) for group in groups for places in group.scored_places())
    if not packed:
        sequences = [len(ids) for group in groups for ids in group.fed_apart()]
        width = max(sequences)
        return Load(width * len(sequences), len(sequences) * width * width, rows)
    tokens = looks = 0
    prompts: set[tuple[int, ...]] = set()
    for group, sequences in zip(groups, fed, strict=True):
        shared = common_prefix_length(sequences)
        rests = [len(ids) - shared for ids in sequences]
        tokens += shared + sum(rests) - (len(group.prompt_ids) if group.prompt_ids in prompts else 0)
        looks += _triangle(shared) + sum(rest * shared + _triangle(rest) for rest in rests)
        prompts.add(group.prompt_ids)
    return Load(tokens, looks, rows)


def _triangle(count: int) -> int:
    return count * (count + 1) // 2


@dataclass(frozen=True)
class Line:
    """A cost that grows with tokens: `fixed + each x tokens`."""

    fixed: float
    each: float

    def at(self, tokens: float) -> float:
        """Return the cost of so many tokens."""
        return self.fixed + self.each * tokens

    @classmethod
    def through(cls, one: tuple[float, float], other: tuple[float, float]) -> Line:
        """Return the line through two measured points (tokens, cost); neither part of it is negative.

        Noise can make the small point dearer than it is, or cheaper: then the line goes through the large one and
        the origin, or is flat.
        """
        (few, low), (many, high) = sorted((one, other))
        each = (high - low) / (many - few) if many > few else high / many
        each = min(max(each, 0.0), high / many)
        return cls(high - each * many, each)


@dataclass(frozen=True)
class UnitCosts:
    """What the probe found on this device: seconds, and bytes kept for the backward pass.

    "Rest" is what a micro-batch costs beside the layers that are alike and the head: the last layer, which is
    pruned, the embedding, the final norm, batching, and starting everything.

    Attributes:
        layer_forward: Seconds for a token of a layer's work, without gradient.
        layer_step: Likewise, forward and backward.
        rest_forward: Seconds by tokens, without gradient.
        rest_step: Likewise, forward and backward.
        head_forward: Seconds a scored row, without gradient.
        head_step: Likewise, forward and backward.
        update: Seconds a trained parameter, of the optimizer and what goes with it.
        layer_saved: Bytes that a layer keeps, by tokens.
        rest_saved: Bytes that the rest keeps, by tokens.
        working: Bytes beside all that is accounted for by name, by tokens: libraries, code, buffers, what the
            allocator holds.
        spread: Relative standard deviation of a repeated measurement.
    """

    layer_forward: float
    layer_step: float
    rest_forward: Line
    rest_step: Line
    head_forward: float
    head_step: float
    update: float
    layer_saved: Line
    rest_saved: Line
    working: Line
    spread: float


@dataclass(frozen=True)
class Shape:
    """How a run is computed, as far as its cost depends on it.

    Attributes:
        sizes: Of the model.
        trunk: Whether the frozen layers run apart from the others, and once, see `penchant.objective.pair_model`.
        block_rows: Rows of the head's scores that exist at a time.
        optimizer: One of `OPTIMIZER_STATE`.
        moving: Whether what is trained exists twice, for a reference that follows the policy.
        watched: Whether it exists once more as it began, to compare the policy's answers with.
        four_bit: Whether the linear layers are kept in 4 bits.
    """

    sizes: ModelSizes
    trunk: bool
    block_rows: int
    optimizer: str = "adamw"
    moving: bool = False
    four_bit: bool = False
    watched: bool = False

    @property
    def alike(self) -> int:
        """Trained layers beside the last one, which belongs to the rest."""
        return max(0, self.sizes.layers - self.sizes.frozen_layers - 1)

    @property
    def weights(self) -> float:
        """Bytes of all weights, an untied head's copy included."""
        in_four_bits = self.sizes.linear if self.four_bit else 0
        return FP32 * (self.sizes.total - in_four_bits) + FOUR_BIT * in_four_bits

    @property
    def checkpoint(self) -> float:
        """Bytes of a checkpoint: what is trained, the optimizer's state, and a moving reference."""
        return (FP32 * (1 + self.moving) + OPTIMIZER_STATE[self.optimizer][1]) * self.sizes.trained


def trunk_seconds(load: Load, shape: Shape, costs: UnitCosts) -> float:
    """Return the seconds of the frozen layers for a micro-batch."""
    return shape.sizes.frozen_layers * costs.layer_forward * load.layer_tokens(shape.sizes)


def forward_seconds(load: Load, shape: Shape, costs: UnitCosts) -> float:
    """Return the seconds of the layers above the trunk and of the head without gradient, as for the reference."""
    layers = shape.alike * costs.layer_forward * load.layer_tokens(shape.sizes)
    return layers + costs.rest_forward.at(load.tokens) + costs.head_forward * load.rows


def other_model_seconds(load: Load, other: ModelSizes, shape: Shape, costs: UnitCosts) -> float:
    """Return the seconds of a whole other model for a micro-batch without gradient.

    The costs are those of the policy: a layer's go by its parameters, the head's by the size of its matrix.

    Args:
        load: The micro-batch.
        other: Sizes of the other model.
        shape: Of the policy.
        costs: From the probe, of the policy.
    """
    own = shape.sizes
    alike = (other.layers - 1) * costs.layer_forward * load.layer_tokens(other)
    layers = (alike + costs.rest_forward.at(load.tokens)) * other.layer / own.layer
    return layers + costs.head_forward * load.rows * other.head / own.head


def gradient_seconds(load: Load, shape: Shape, costs: UnitCosts) -> float:
    """Return the seconds of a micro-batch forward and backward, above the trunk."""
    layers = shape.alike * costs.layer_step * load.layer_tokens(shape.sizes)
    return layers + costs.rest_step.at(load.tokens) + costs.head_step * load.rows


def step_parts(loads: Sequence[Load], shape: Shape, costs: UnitCosts, *, accumulates: bool) -> dict[str, float]:
    """Return by name the bytes that exist at the peak of a training step; their sum is the peak.

    Args:
        loads: Of the micro-batches that occur; the one that needs most counts.
        shape: How it is computed.
        costs: From the probe.
        accumulates: Whether a step has more than one micro-batch, so that gradients are added up.
    """
    sizes, (state, each) = shape.sizes, OPTIMIZER_STATE[shape.optimizer]
    buffers = (sizes.head_trained and accumulates) + sizes.embedding_trained * (1 + accumulates)
    largest = max(loads, key=lambda load: activation_bytes(load, shape, costs) + costs.working.at(load.tokens))
    return {
        "weights": shape.weights - FP32 * sizes.own_parameters,
        "head of its own": FP32 * sizes.own_parameters,
        "gradients": FP32 * sizes.trained,
        "gradients of a micro-batch": FP32 * sizes.head * buffers,
        state: each * sizes.trained,
        "reference that moves": FP32 * sizes.trained * shape.moving,
        "start, to compare answers with": FP32 * sizes.trained * shape.watched,
        "scores": FP32 * sizes.vocabulary * min(shape.block_rows, max(load.rows for load in loads)),
        "activations": activation_bytes(largest, shape, costs),
        "libraries and working memory": costs.working.at(largest.tokens),
    }


def scoring_bytes(loads: Sequence[Load], other: ModelSizes, shape: Shape, costs: UnitCosts) -> float:
    """Return the most bytes that exist while another model scores the micro-batches, alone in memory.

    Args:
        loads: The micro-batches.
        other: Sizes of the other model.
        shape: Of the policy.
        costs: From the probe, of the policy.
    """
    rows = min(shape.block_rows, max(load.rows for load in loads))
    working = costs.working.at(max(load.tokens for load in loads))
    return max(FP32 * other.total + FP32 * other.vocabulary * rows + working, loading_bytes(other) + working)


def loading_bytes(sizes: ModelSizes) -> float:
    """Return the bytes of a model's weights while they are read: a file that is not fp32 is copied into fp32."""
    pages = 0 if sizes.stored_bytes == FP32 else sizes.stored_bytes * (sizes.total - sizes.own_parameters)
    return FP32 * sizes.total + pages


def activation_bytes(load: Load, shape: Shape, costs: UnitCosts) -> float:
    """Return the bytes that a micro-batch keeps for its backward pass."""
    layers = shape.alike * costs.layer_saved.at(load.tokens)
    hidden = FP32 * shape.sizes.width * load.rows  # the gradient of the head's inputs, made in the forward pass
    return layers + costs.rest_saved.at(load.tokens) + hidden
