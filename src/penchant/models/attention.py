"""Attention over the packed row: a response sees its prefix and itself, never its twin or another group.

Registered with transformers under one name, so every decoder that goes through its attention interface can use
it. The name has no mask function there, so the mask arrives as None and no 4-D mask is ever built; who sees whom
is prepared once a micro-batch and travels to every layer as the keyword argument `packed_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from penchant.batching.attention_plan import Block
from penchant.models.attention_check import KERNELS
from penchant.models.precision import exact_products

PREFIX_ATTENTION = "penchant_prefix"

# From query (1, heads, queries, d), key and value (1, key-value heads, tokens, d) and the scale of scores (None
# is 1 / sqrt(d)) to the output, shape (1, queries, heads, d).
Attend = Callable[[Tensor, Tensor, Tensor, float | None], Tensor]

_Shape = tuple[int, int, int]  # queries, keys of the prefix, own keys


def prefix_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    packed_attention: Attend | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return the attention output, shape (1, queries, heads, head width), and no weights.

    Args:
        module: The attention layer that calls.
        query: Shape (1, heads, queries, head width).
        key: Shape (1, key-value heads, tokens, head width).
        value: Like `key`.
        attention_mask: Always None for this implementation.
        scaling: Factor of the scores.
        packed_attention: Who sees whom in this row.
    """
    if packed_attention is None or attention_mask is not None:
        raise RuntimeError("prefix attention needs the description of a packed row, and no mask")
    return packed_attention(query, key, value, scaling), None


AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)  # type: ignore[arg-type]


def packed_attention(kernel: str, blocks: Sequence[Block], tokens: int, device: torch.device | str) -> Attend:
    """Return the attention of some blocks, prepared for all layers of a micro-batch.

    Args:
        kernel: `sdpa`, `varlen` or `flex`, as `penchant.models.attention_check.choose_attention` found it.
        blocks: Who sees whom.
        tokens: Rows that serve as keys.
        device: Where it will run.
    """
    if kernel == "sdpa":
        return sdpa_attention(blocks, device)
    own = KERNELS[kernel]
    plan = own.plan(blocks, tokens, str(device))

    def attend(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            found = own.attend(query, key, value, plan, query.shape[-1] ** -0.5 if scale is None else scale)
        return found.transpose(1, 2)

    return attend


def sdpa_attention(blocks: Sequence[Block], device: torch.device | str) -> Attend:
    """Return the attention of some blocks by one SDPA call a shape: blocks of one shape share a call.

    A first response is a causal square over prefix and itself; each further one a rectangle of its tokens over
    prefix and itself, with an explicit mask.
    """
    calls = _calls(blocks, torch.device(device))
    on_cpu = torch.device(device).type == "cpu" and _FLASH_ON_CPU is not None

    def attend(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        # autocast leaves rotated queries and keys in fp32 and gives values in bf16
        matched = query.to(value.dtype), key.to(value.dtype), value
        with torch.autocast(query.device.type, enabled=False):
            if on_cpu:
                return cast(Tensor, _CpuAttention.apply(*matched, calls, scale)).to(query.dtype)
            return _sdpa(*matched, calls, scale).to(query.dtype)

    return attend


class _Call:
    """Blocks of one shape, and the mask that they share (None: the causal square).

    Attributes:
        blocks: The blocks.
        at: The first compact query row of each.
        mask: Added to the scores: 0 where a query may look and -inf elsewhere, fp32, shape (queries, keys).
    """

    def __init__(self, blocks: Sequence[tuple[int, Block]], device: torch.device) -> None:
        self.blocks = [block for _, block in blocks]
        self.at = [at for at, _ in blocks]
        queries, keys = self.blocks[0].num_queries, self.blocks[0].num_keys
        self.mask: Tensor | None = None
        if queries != keys:
            self.mask = torch.full((queries, keys), -torch.inf, device=device).triu_(keys - queries + 1)

    def mask_in(self, dtype: torch.dtype) -> Tensor | None:
        """Return the mask in the type that the scores have."""
        return None if self.mask is None else self.mask.to(dtype)

    def queries(self, rows: Tensor) -> Tensor:
        """Return the query rows of these blocks, shape (blocks, heads, queries, d)."""
        return _stack([rows[:, :, at : at + b.num_queries] for at, b in zip(self.at, self.blocks, strict=True)])

    def keys(self, rows: Tensor) -> Tensor:
        """Return the key (or value) rows of these blocks, shape (blocks, key-value heads, keys, d)."""
        return _stack([_prefix_and_own(rows, block) for block in self.blocks])


def _calls(blocks: Sequence[Block], device: torch.device) -> list[_Call]:
    placed: list[tuple[_Shape, int, Block]] = []
    at = 0
    for block in blocks:
        shape = (block.num_queries, block.prefix[1] - block.prefix[0], block.own[1] - block.own[0])
        placed.append((shape, at, block))
        at += block.num_queries
    placed.sort(key=lambda item: item[0])  # stable: blocks of one shape keep their order
    return [
        _Call([(at, block) for _, at, block in same], device)
        for _, same in groupby(placed, key=lambda item: item[0])
    ]


def _stack(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _prefix_and_own(rows: Tensor, block: Block) -> Tensor:
    own = rows[:, :, block.own[0] : block.own[1]]
    if block.prefix[0] == block.prefix[1]:
        return own
    return torch.cat([rows[:, :, block.prefix[0] : block.prefix[1]], own], dim=2)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, calls: list[_Call], scale: float | None) -> Tensor:
    """The slow twin of the CPU's, by torch's own differentiation; and what other devices use."""
    outputs: list[tuple[int, Tensor]] = []
    for call in calls:
        result = scaled_dot_product_attention(
            call.queries(query),
            call.keys(key),
            call.keys(value),
            attn_mask=call.mask_in(query.dtype),
            is_causal=call.mask is None,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs += zip(call.at, result.split(1), strict=True)
    return torch.cat([output for _, output in sorted(outputs, key=lambda item: item[0])], dim=2).transpose(1, 2)


# torch's own CPU kernel, called by name: differentiating through slices of one row would fill and add a whole row
# of zeros for every slice, which costs as much as the attention itself.
_FLASH_ON_CPU: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_ON_CPU_BACKWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


class _CpuAttention(torch.autograd.Function):
    """Flash attention call by call, each writing into and adding to slices of one row."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, calls: list[_Call], scale: float | None
    ) -> Tensor:
        output = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
        by_head = output.transpose(1, 2)
        sums: list[Tensor] = []
        with exact_products():
            for call in calls:
                result, log_sum = _FLASH_ON_CPU(
                    call.queries(query),
                    call.keys(key),
                    call.keys(value),
                    0.0,
                    call.mask is None,
                    attn_mask=call.mask_in(query.dtype),
                    scale=scale,
                )
                _write(by_head, call, result)
                sums.append(log_sum)
        ctx.save_for_backward(query, key, value, output, *sums)
        ctx.calls, ctx.scale = calls, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *sums = ctx.saved_tensors
        by_head, slope = output.transpose(1, 2), grads[0].transpose(1, 2)
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        with exact_products():
            for call, log_sum in zip(ctx.calls, sums, strict=True):
                into_query, into_key, into_value = _FLASH_ON_CPU_BACKWARD(
                    call.queries(slope),
                    call.queries(query),
                    call.keys(key),
                    call.keys(value),
                    call.queries(by_head),
                    log_sum,
                    0.0,
                    call.mask is None,
                    attn_mask=call.mask_in(query.dtype),
                    scale=ctx.scale,
                )
                _write(grad_query, call, into_query)
                _add(grad_key, call, into_key)
                _add(grad_value, call, into_value)
        return grad_query, grad_key, grad_value, None, None


def _write(rows: Tensor, call: _Call, result: Tensor) -> None:
    for at, part in zip(call.at, result.split(1), strict=True):
        rows[:, :, at : at + part.shape[2]] = part


def _add(rows: Tensor, call: _Call, result: Tensor) -> None:
    for block, part in zip(call.blocks, result.split(1), strict=True):
        shared = block.prefix[1] - block.prefix[0]
        if shared:
            rows[:, :, block.prefix[0] : block.prefix[1]] += part[:, :, :shared]
        rows[:, :, block.own[0] : block.own[1]] += part[:, :, shared:]
