r"""The floating-point operations that a run cannot do without, counted from token ids by formula.

A product of matrices counts 2 operations a multiply-add; norms, rotations, softmax and AdamW count nothing, so the
rate that comes out is a lower bound. For a pair with a shared prefix of S fed tokens and rests of a and b (a
response's last token is never fed), with lin = weights of one layer, w = heads x head size and
tri(n) = n (n + 1) / 2:

* a layer's forward: 2 lin t + 4 w p, with t = S + a + b positions and
  p = tri(S) + a S + tri(a) + b S + tri(b) pairs of query and key;
* the last layer: keys and values for all t positions, everything else only for the positions that predict a scored
  token (the prompt's last, and the responses' but their last), each with the keys it sees;
* the head's forward: 2 V d for each scored token;
* backward: twice the forward of a trained linear part, once where gradients only pass, 2.5 times that of
  attention (its scores are computed again), nothing in frozen layers below every trained one;
* LoRA: 2 r (inputs + outputs) a position and linear layer forward, twice that backward.

Once a run (none with warm caches): the frozen layers' forward, and the other layers' and the head's for the
reference. Every epoch: the other layers' and the head's forward and backward.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.work import LORA_RANK

from penchant.batching.pair_batch import common_prefix_length, pair_group
from penchant.types import TokenizedPair


@dataclass(frozen=True)
class Sizes:
    """What of a decoder's shape decides its cost."""

    width: int
    layers: int
    queries: int
    keys: int
    inner: int
    vocabulary: int

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's linear maps but keys and values: queries, output, gate, up, down."""
        d, f = self.width, self.inner
        return ((d, self.queries), (self.queries, d), (d, f), (d, f), (f, d))

    @property
    def key_values(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of keys and values."""
        return ((self.width, self.keys),) * 2


def read_sizes(model: str) -> Sizes:
    """Return the sizes of the model in a directory."""
    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    return Sizes(
        width,
        config["num_hidden_layers"],
        heads * head,
        config["num_key_value_heads"] * head,
        config["intermediate_size"],
        config["vocab_size"],
    )


@dataclass(frozen=True)
class Cost:
    """Operations in the layers and in the head."""

    layers: float
    head: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.layers + other.layers, self.head + other.head)


@dataclass(frozen=True)
class _Counts:
    """Positions and (query, key) pairs, of all layers and of the pruned last one; scored tokens."""

    positions: int
    pairs: int
    last_positions: int
    last_pairs: int
    scored: int


def useful(pairs: Sequence[TokenizedPair], sizes: Sizes, part: str) -> tuple[Cost, Cost]:
    """Return the operations of the one-time part and of an epoch over `pairs`; see the module."""
    counts = [_count(pair) for pair in pairs]
    frozen = sizes.layers - 5 if part == "last5" else 0
    once, epoch = Cost(0, 0), Cost(0, 0)
    for count in counts:
        once += Cost(
            sum(_layer(count, sizes, layer, 1, 1, 0) for layer in range(sizes.layers)), _head(count, sizes)
        )
        # forward once; backward: input gradients, and weight gradients where the weights train
        linear, adapters = (2, LORA_RANK) if part == "lora" else (3, 0)
        upper = range(frozen, sizes.layers)
        epoch += Cost(
            sum(_layer(count, sizes, layer, linear, 3.5, adapters) for layer in upper),
            _head(count, sizes) * linear,
        )
    return once, epoch


def _layer(count: _Counts, sizes: Sizes, layer: int, linear: float, attention: float, rank: int) -> float:
    last = layer == sizes.layers - 1
    positions = count.last_positions if last else count.positions
    pairs = count.last_pairs if last else count.pairs
    return (
        _linear(sizes.linears, positions, linear, rank)
        + _linear(sizes.key_values, count.positions, linear, rank)
        + attention * 4 * sizes.queries * pairs
    )


def _linear(maps: Sequence[tuple[int, int]], positions: int, passes: float, rank: int) -> float:
    weights = sum(inputs * outputs for inputs, outputs in maps)
    adapters = sum(rank * (inputs + outputs) for inputs, outputs in maps)
    return 2 * positions * (passes * weights + 3 * adapters)


def _head(count: _Counts, sizes: Sizes) -> float:
    return 2.0 * sizes.vocabulary * sizes.width * count.scored


def _count(pair: TokenizedPair) -> _Counts:
    fed = pair_group(pair).fed()
    shared = common_prefix_length(fed)
    rests = [len(ids) - shared for ids in fed]
    first = len(pair.prompt_ids) - 1  # the first position that predicts a scored token
    in_prefix = shared - first
    own = sum(rest * shared + _tri(rest) for rest in rests)
    return _Counts(
        positions=shared + sum(rests),
        pairs=_tri(shared) + own,
        last_positions=in_prefix + sum(rests),
        last_pairs=_tri(shared) - _tri(first) + own,
        scored=len(pair.chosen_ids) + len(pair.rejected_ids),
    )


def _tri(n: int) -> int:
    return n * (n + 1) // 2
