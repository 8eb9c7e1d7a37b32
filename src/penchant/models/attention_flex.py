"""Attention over the packed row by FlexAttention: for fp32, and where flash kernels cannot be had.

What a query may see is four numbers a row, looked up inside the kernel; whole tiles that nobody sees are never
computed. The tiles are found from those numbers alone, so no (queries, tokens) mask is ever built. On CUDA the
kernel is compiled, a few times for all lengths; on a CPU it is computed plainly and has no backward (a limit of
torch).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.functional import pad

from penchant.batching.attention_plan import Block, rows_of, sent_to

TILE = 128  # FlexAttention's own; lengths are padded to whole tiles, so that kernels meet few different shapes


@dataclass(frozen=True)
class FlexPlan:
    """What all layers of a micro-batch need to know, made once.

    Attributes:
        mask: Which tiles are computed, and the rule inside those that are seen in part.
        padded_queries: Queries rounded up to whole tiles.
        padded_tokens: Tokens rounded up to whole tiles.
    """

    mask: flex.BlockMask
    padded_queries: int
    padded_tokens: int


def flex_plan(blocks: Sequence[Block], tokens: int, device: torch.device | str = "cpu") -> FlexPlan:
    """Return the plan of a row of `tokens` tokens, on a device.

    Raises:
        ValueError: There is no block.
    """
    if not blocks:
        raise ValueError("a row without a query")
    views = sent_to(_views(blocks), device)
    padded_tokens = _whole_tiles(tokens)
    seen = _seen_keys(views, padded_tokens).view(-1, TILE, padded_tokens // TILE).sum(1)
    full = seen == TILE * TILE
    partial = (seen > 0) & ~full
    mask = flex.BlockMask.from_kv_blocks(
        *_tile_list(partial),
        *_tile_list(full),
        BLOCK_SIZE=TILE,
        mask_mod=_rule(*views.unbind()),
        seq_lengths=(views.shape[1], padded_tokens),
    )
    return FlexPlan(mask, views.shape[1], padded_tokens)


def flex_attention(query: Tensor, key: Tensor, value: Tensor, plan: FlexPlan, scale: float) -> Tensor:
    """Return the attention output, shape and type of `query`.

    It is computed in the type of `value`: under autocast that is what matrix products give, while rotary
    embeddings leave queries and keys in fp32.

    Args:
        query: Shape (1, heads, queries, head width): the rows that `penchant.batching.attention_plan.query_rows`
            names.
        key: Shape (1, key-value heads, tokens, head width).
        value: Like `key`.
        plan: Of the row, on the same device.
        scale: Factor of the scores.
    """
    queries = query.shape[2]
    attend = _compiled() if query.is_cuda else flex.flex_attention
    output = attend(
        _padded(query.to(value.dtype), plan.padded_queries),
        _padded(key.to(value.dtype), plan.padded_tokens),
        _padded(value, plan.padded_tokens),
        block_mask=plan.mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output[:, :, :queries].to(query.dtype)


@functools.cache
def _compiled() -> Callable[..., Any]:
    import torch._dynamo.config as dynamo

    # One version for each type, number of heads and width, with or without gradients, pruned or not, and at first
    # a second one for other lengths; a process that scores two models may need more than the usual 8.
    dynamo.recompile_limit = max(dynamo.recompile_limit, 64)
    # fullgraph: past that limit an error, not a silent fall to the uncompiled form, quadratic in memory
    return torch.compile(flex.flex_attention, fullgraph=True)


def _views(blocks: Sequence[Block]) -> Tensor:
    """Return for each query the row that it is, where its prefix begins and ends, and where its own rows begin.

    Shape (4, whole tiles of queries), int32. A query that only fills the last tile sees row 0, so that no row of
    the softmax is empty; its output is cut off and nothing flows back through it.
    """
    rows = rows_of([block.query for block in blocks])
    queries = torch.tensor([block.num_queries for block in blocks])
    per_block = torch.tensor([[*block.prefix, block.own[0]] for block in blocks])
    views = torch.cat([rows[None], per_block.repeat_interleave(queries, dim=0).T]).to(torch.int32)
    return pad(views, (0, _whole_tiles(len(rows)) - len(rows)))


def _rule(row: Tensor, prefix_start: Tensor, prefix_end: Tensor, own_start: Tensor) -> Callable[..., Tensor]:
    """Return whether a query sees a key, as FlexAttention asks it."""

    def may_see(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (key >= own_start[query]) & (key <= row[query])
        return own | ((key >= prefix_start[query]) & (key < prefix_end[query]))

    return may_see


def _seen_keys(views: Tensor, padded_tokens: int) -> Tensor:
    """Return how many keys of each tile each query sees, shape (queries, tiles of keys)."""
    row, prefix_start, prefix_end, own_start = views[:, :, None].unbind()
    begins = torch.arange(0, padded_tokens, TILE, device=views.device, dtype=views.dtype)
    return _overlap(prefix_start, prefix_end, begins) + _overlap(own_start, row + 1, begins)


def _overlap(start: Tensor, end: Tensor, begins: Tensor) -> Tensor:
    return (end.minimum(begins + TILE) - start.maximum(begins)).clamp(min=0)


def _tile_list(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many tiles of keys each tile of queries has, and which, chosen ones first, as flex wants them."""
    counts = chosen.sum(1, dtype=torch.int32)
    indices = chosen.to(torch.int32).argsort(dim=1, descending=True, stable=True).to(torch.int32)
    return counts[None, None], indices[None, None]


def _padded(tensor: Tensor, length: int) -> Tensor:
    return pad(tensor, (0, 0, 0, length - tensor.shape[2]))


def _whole_tiles(length: int) -> int:
    return -(-length // TILE) * TILE
