"""Attention over the packed row: a response sees its prefix and itself, never its twin or another group.

Registered with transformers under one name, so every decoder that goes through its attention interface can use
it. The name has no mask function there, so the mask arrives as None and no 4-D mask is ever built; what may be
seen follows from the `prefix_segments` that travel as a keyword argument.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from penchant.batching.pair_batch import Segment

PREFIX_ATTENTION = "penchant_prefix"


def prefix_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    prefix_segments: tuple[Segment, ...] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return the attention output, shape (1, tokens, heads, head width), and no weights.

    Two calls a pair: a causal square over prefix and first response, and for each further response a rectangle
    of its tokens over prefix and itself.

    Args:
        module: The attention layer that calls.
        query: Shape (1, heads, tokens, head width).
        key: Shape (1, key-value heads, tokens, head width).
        value: Like `key`.
        attention_mask: Always None for this implementation.
        scaling: Factor of the scores.
        prefix_segments: The groups of the row.
    """
    if prefix_segments is None or attention_mask is not None:
        raise RuntimeError("prefix attention needs the segments of a packed row, and no mask")
    dtype = query.dtype
    if query.device.type == "cpu":  # its bf16 backward takes three times as long as fp32 at these lengths
        query, key, value = query.float(), key.float(), value.float()
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    with torch.autocast(query.device.type, enabled=False):
        output = torch.cat(_attend_groups(query, key, value, prefix_segments, scaling), dim=2)
    return output.to(dtype).transpose(1, 2), None


def _attend_groups(
    query: Tensor, key: Tensor, value: Tensor, segments: tuple[Segment, ...], scaling: float | None
) -> list[Tensor]:
    outputs: list[Tensor] = []
    for segment in segments:
        start, prefix_end = segment.start, segment.start + segment.prefix
        first_end = prefix_end + segment.rests[0]
        square = slice(start, first_end)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, square], key[:, :, square], value[:, :, square], is_causal=True, scale=scaling
            )
        )
        cursor = first_end
        for rest in segment.rests[1:]:
            own = slice(cursor, cursor + rest)
            cursor += rest
            if rest:
                keys = torch.cat([key[:, :, start:prefix_end], key[:, :, own]], dim=2)
                values = torch.cat([value[:, :, start:prefix_end], value[:, :, own]], dim=2)
                mask = _lower_right(rest, segment.prefix + rest, query.device)
                outputs.append(
                    scaled_dot_product_attention(query[:, :, own], keys, values, attn_mask=mask, scale=scaling)
                )
    return outputs


def _lower_right(queries: int, keys: int, device: torch.device) -> Tensor:
    """True where a query may look: query i is the token number keys - queries + i of its sequence."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)  # type: ignore[arg-type]
