"""The slow twins of the attention kernels: a softmax written out, and torch's `varlen_attn` in plain terms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from hypothesis import strategies as st
from torch import Tensor

from penchant.batching.attention_plan import blocks, query_rows
from penchant.batching.pair_batch import Segment
from penchant.models import attention_cuda


def may_see(segments: tuple[Segment, ...]) -> Tensor:
    """Token by token: the prefix and the own rest up to itself, nothing of a twin or another group."""
    tokens = sum(segment.length for segment in segments)
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for segment in segments:
        prefix = list(range(segment.start, segment.start + segment.prefix))
        cursor = segment.start + segment.prefix
        for rest in segment.rests:
            sequence = prefix + list(range(cursor, cursor + rest))
            for place, token in enumerate(sequence):
                seen[token, sequence[: place + 1]] = True
            cursor += rest
    return seen


def wanted_rows(segments: tuple[Segment, ...], first_query: tuple[int, ...] | None) -> list[int]:
    """The rows of each group from its first wanted one on."""
    firsts = first_query or [segment.start for segment in segments]
    return [
        row
        for segment, first in zip(segments, firsts, strict=True)
        for row in range(first, segment.start + segment.length)
    ]


def dense_attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scale: float) -> Tensor:
    """Softmax over the tokens that each query sees; `seen` has shape (queries, tokens)."""
    repeats = query.shape[1] // key.shape[1]
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key.repeat_interleave(repeats, 1)) * scale
    weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
    return weights @ value.repeat_interleave(repeats, 1)


def emulated_varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
    top_left: bool = False,
    shift: int = 0,
) -> Tensor:
    """What torch's kernel computes for causal windows, and the demands that it makes of its arguments.

    The last two make it wrong: the mask in the other corner, and so many later keys seen.
    """
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert window_size == (-1, 0)
    assert query.dtype == key.dtype == value.dtype
    assert enable_gqa or query.shape[1] == key.shape[1]
    queries, keys = cu_seq_q.diff().tolist(), cu_seq_k.diff().tolist()
    assert (max_q, max_k) == (max(queries), max(keys))
    assert (sum(queries), sum(keys)) == (len(query), len(key))
    repeats = query.shape[1] // key.shape[1]
    outputs = []
    for own, its_keys, its_values in zip(query.split(queries), key.split(keys), value.split(keys), strict=True):
        seen = torch.ones(len(own), len(its_keys), dtype=torch.bool)
        seen = seen.tril(shift + (0 if top_left else len(its_keys) - len(own)))
        scores = torch.einsum("qhd,khd->hqk", own, its_keys.repeat_interleave(repeats, 1)) * scale
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights, its_values.repeat_interleave(repeats, 1)))
    return torch.cat(outputs)


def varlen_without_gqa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
) -> Tensor:
    """The same with the arguments of the oldest supported torch."""
    return emulated_varlen_attn(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size
    )


@contextlib.contextmanager
def emulated_kernel(kernel: Any = emulated_varlen_attn) -> Iterator[None]:
    """Let the flash path run on the CPU, in any floating-point type."""
    every_type = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    with mock.patch.multiple(attention_cuda, varlen_attn=kernel, HALF=every_type):
        yield


Row = tuple[tuple[Segment, ...], tuple[int, ...] | None]


@st.composite
def rows(draw: st.DrawFn, *, longest: int = 6) -> Row:
    """Some groups of one to four responses side by side, and where the wanted queries of each begin."""
    segments: list[Segment] = []
    start = 0
    lengths = st.integers(0, longest)
    for _ in range(draw(st.integers(1, 5))):
        rests = tuple(draw(st.lists(lengths, min_size=1, max_size=4)))
        segments.append(Segment(start, draw(st.integers(1, longest)), rests))
        start += segments[-1].length
    if draw(st.booleans()):
        return tuple(segments), None
    # what the engine prunes to: a token of the prefix, or of the first response, or all up to a later one
    firsts = tuple(draw(st.integers(s.start, s.start + s.length - 1)) for s in segments)
    return tuple(segments), firsts


Inputs = tuple[Tensor, Tensor, Tensor]


def random_inputs(row: Row, heads: int, key_heads: int, width: int, dtype: torch.dtype) -> Inputs:
    """Query, key and value of a row, the same for the same row and sizes."""
    segments, first_query = row
    draw = torch.Generator().manual_seed(len(segments) + 7 * heads + key_heads)
    tokens = sum(segment.length for segment in segments)
    queries = len(query_rows(blocks(segments, first_query)))

    def normal(heads: int, rows: int) -> Tensor:
        return torch.randn(1, heads, rows, width, generator=draw, dtype=torch.float64).to(dtype)

    return normal(heads, queries), normal(key_heads, tokens), normal(key_heads, tokens)


def output_and_gradients(attend: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: Inputs) -> list[Tensor]:
    """The output of a function, and the gradients of a sum of it with fixed unequal weights."""
    query, key, value = (tensor.detach().requires_grad_() for tensor in inputs)
    output = attend(query, key, value)
    weights = torch.linspace(-50, 50, output.numel(), dtype=torch.float64).cos().view(output.shape)
    gradients = torch.autograd.grad(output, (query, key, value), weights.to(output))
    return [output.detach(), *gradients]
