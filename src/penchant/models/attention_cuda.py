"""Attention over the packed row by flash kernels for sequences of different lengths (`varlen_attn` of torch).

Every block is one sequence of the kernel: its queries against prefix and own rows, causal at the bottom right.
Keys and values of a prefix are laid out once for every response, which costs memory traffic and no arithmetic.
Their gradients come together again in a fixed order, without atomic additions. The kernel's own backward still
adds query gradients in any order unless `torch.use_deterministic_algorithms(True)` is set.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from penchant.batching.attention_plan import Block, rows_of, sent_to

HALF = (torch.bfloat16, torch.float16)  # what flash kernels compute in


@dataclass(frozen=True)
class VarlenPlan:
    """What all layers of a micro-batch need to know, made once.

    Attributes:
        cu_queries: Where each block's queries begin, and the end of the last, shape (blocks + 1,), int32.
        cu_keys: Likewise for the keys, int32.
        max_queries: Most queries of a block.
        max_keys: Most keys of a block.
        gather: For each key of each block its row, shape (keys,), int64.
        places: The way back: `places[j][row]` is the j-th key that the row is, or `keys` when it is fewer keys
            than that. As many tensors of shape (tokens,), int64, as the most blocks that share a row.
    """

    cu_queries: Tensor
    cu_keys: Tensor
    max_queries: int
    max_keys: int
    gather: Tensor
    places: tuple[Tensor, ...]

    def to(self, device: torch.device | str) -> VarlenPlan:
        """Return the plan on another device; to CUDA without waiting for it."""
        return VarlenPlan(
            sent_to(self.cu_queries, device),
            sent_to(self.cu_keys, device),
            self.max_queries,
            self.max_keys,
            sent_to(self.gather, device),
            tuple(sent_to(place, device) for place in self.places),
        )


def varlen_plan(blocks: Sequence[Block], tokens: int, device: torch.device | str = "cpu") -> VarlenPlan:
    """Return the plan of a row of `tokens` tokens, on a device.

    Raises:
        ValueError: There is no block.
    """
    if not blocks:
        raise ValueError("a row without a query")
    queries = [block.num_queries for block in blocks]
    keys = [block.num_keys for block in blocks]
    gather = rows_of([rows for block in blocks for rows in (block.prefix, block.own)])
    plan = VarlenPlan(
        cu_queries=_cumulative(queries),
        cu_keys=_cumulative(keys),
        max_queries=max(queries),
        max_keys=max(keys),
        gather=gather,
        places=_places(gather, tokens),
    )
    return plan.to(device)


def varlen_attention(query: Tensor, key: Tensor, value: Tensor, plan: VarlenPlan, scale: float) -> Tensor:
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
    output = _kernel(
        query[0].transpose(0, 1).to(value.dtype).contiguous(),
        shared_rows(key[0].transpose(0, 1).to(value.dtype), plan),
        shared_rows(value[0].transpose(0, 1), plan),
        plan,
        scale,
    )
    return output.transpose(0, 1)[None].to(query.dtype)


def shared_rows(rows: Tensor, plan: VarlenPlan) -> Tensor:
    """Return the rows as the blocks need them, prefixes repeated, shape (keys, ...) from (tokens, ...)."""
    return _SharedRows.apply(rows, plan.gather, plan.places)  # type: ignore[no-any-return]


class _SharedRows(torch.autograd.Function):
    """Rows taken by index. The backward is only gathers and sums, where torch's own would add atomically."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gather: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        ctx.places = places  # no function of any parameter, and no output: nothing that autograd has to guard
        return rows.index_select(0, gather)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        # a row that is no further key finds the zeros at the end
        padded = torch.cat([gradient, gradient.new_zeros(1, *gradient.shape[1:])])
        total = padded.index_select(0, ctx.places[0])
        if len(ctx.places) > 2:  # the sum of two is rounded once in any case
            total = total.to(torch.promote_types(total.dtype, torch.float32))
        for place in ctx.places[1:]:
            total = total + padded.index_select(0, place)
        return total.to(gradient.dtype), None, None


def _kernel(query: Tensor, key: Tensor, value: Tensor, plan: VarlenPlan, scale: float) -> Tensor:
    """The call of torch's kernel, and all that differs between its versions.

    Causal is `window_size=(-1, 0)` since torch 2.11 (`is_causal` before). `enable_gqa` came later; without it
    keys and values are repeated for the heads that share them.
    """
    if value.dtype not in HALF:
        raise TypeError(f"flash kernels compute in bf16 or fp16, not in {value.dtype}")
    options: dict[str, Any] = {"scale": scale, "window_size": (-1, 0)}
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        if _knows(varlen_attn, "enable_gqa"):
            options["enable_gqa"] = True
        else:
            key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    lengths = (plan.cu_queries, plan.cu_keys, plan.max_queries, plan.max_keys)
    return varlen_attn(query, key, value, *lengths, **options)  # type: ignore[return-value]


@functools.cache
def _knows(function: Callable[..., Any], parameter: str) -> bool:
    return parameter in inspect.signature(function).parameters


def _cumulative(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def _places(gather: Tensor, tokens: int) -> tuple[Tensor, ...]:
    """Return the inverse of `gather`, one tensor for each time that a row occurs."""
    order = gather.argsort(stable=True)  # the keys of row 0, in order, then those of row 1, ...
    counts = gather.bincount(minlength=tokens)
    begins = counts.cumsum(0) - counts
    padded = torch.cat([order, torch.zeros(1, dtype=torch.int64)])
    return tuple(
        torch.where(counts > occurrence, padded[(begins + occurrence).clamp(max=len(order))], len(gather))
        for occurrence in range(int(counts.max()))
    )
