"""Which attention kernel computes packed rows here: each is tried on this very device before it is trusted.

A kernel that aligns the causal mask at the top left, shares key heads wrongly, or is not made for this GPU gives
wrong numbers or an error; which one does so depends on the device, the type and the version of torch. So none is
chosen by its name: it has to agree, forward and backward, with PyTorch's scaled dot-product attention (SDPA) under
an explicit mask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from penchant.batching.attention_plan import Block, blocks, query_rows, rows_of
from penchant.batching.pair_batch import Segment
from penchant.errors import UsageError
from penchant.models.attention_cuda import varlen_attention, varlen_plan
from penchant.models.attention_flex import flex_attention, flex_plan


@dataclass(frozen=True)
class Kernel:
    """An attention over packed rows.

    Attributes:
        plan: From the blocks of a row, its tokens and a device to what `attend` needs, once a micro-batch.
        attend: From query, key, value, that plan and the scale to the output.
    """

    plan: Callable[[Sequence[Block], int, str], Any]
    attend: Callable[[Tensor, Tensor, Tensor, Any, float], Tensor]


KERNELS: Mapping[str, Kernel] = {  # fastest first
    "varlen": Kernel(varlen_plan, varlen_attention),
    "flex": Kernel(flex_plan, flex_attention),
}


@dataclass(frozen=True)
class Choice:
    """The attention that is used: `varlen`, `flex` or `sdpa`, and in one line why."""

    name: str
    reason: str


# Queries fewer than keys, rests from nothing to more than a tile of 128, a pruned prompt, groups of one to three.
# The pruned row comes first: compiled with unequal numbers of queries and keys, a kernel serves both kinds.
_ROWS: tuple[tuple[tuple[Segment, ...], tuple[int, ...] | None], ...] = (
    ((Segment(0, 3, (2, 1)), Segment(6, 200, (30, 90, 1)), Segment(327, 5, (0,))), (2, 205, 327)),
    ((Segment(0, 150, (70, 140)), Segment(360, 3, (2, 0, 4)), Segment(369, 1, (1, 1))), None),
)


def choose_attention(
    device: torch.device | str,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    asked: str = "auto",
    kernels: Mapping[str, Kernel] = KERNELS,
) -> Choice:
    """Return the first kernel that agrees with SDPA on this device, else `sdpa`.

    Each kernel is tried once a process for the same device, type and sizes.

    Args:
        device: Where it will run; on anything but CUDA it is `sdpa` at once.
        dtype: What matrix products are computed in.
        heads: Query heads.
        kv_heads: Key-value heads.
        head_dim: Width of a head.
        asked: `auto`, `sdpa`, or the kernel that it has to be.
        kernels: To choose from, in this order.

    Raises:
        UsageError: The kernel asked for fails here.
    """
    place = torch.device(device)
    if asked == "sdpa":
        return Choice("sdpa", "asked for")
    if place.type != "cuda":
        why_not = f"varlen and flex need CUDA, not {place.type}"
        return _refused(asked, why_not) if asked != "auto" else Choice("sdpa", why_not)
    if asked != "auto":
        failed = failure(kernels[asked], place, dtype, heads, kv_heads, head_dim)
        return Choice(asked, "asked for") if failed is None else _refused(asked, failed)
    passed_over = []
    for name, kernel in kernels.items():
        failed = failure(kernel, place, dtype, heads, kv_heads, head_dim)
        if failed is None:
            return Choice(name, "; ".join([*passed_over, f"{name} agrees with sdpa here"]))
        passed_over.append(f"not {name}: {failed}")
    return Choice("sdpa", "; ".join(passed_over))


@functools.cache
@torch.enable_grad()
def failure(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int
) -> str | None:
    """Return in one line what is wrong with a kernel on a device, or None when it agrees with SDPA.

    Output and gradients of small rows may differ from SDPA in float64 by `tolerance(dtype)` of the largest value.
    """
    sizes = (heads, kv_heads, head_dim)
    try:
        for segments, first_query in _ROWS:
            these = blocks(segments, first_query)
            found = _differences(kernel, these, sum(segment.length for segment in segments), device, dtype, sizes)
            for name, difference in found.items():
                if not difference <= tolerance(dtype):  # so that nan is a failure
                    return (
                        f"its {name} is off by {difference:.1g} of the largest, {tolerance(dtype):.1g} is allowed"
                    )
    except Exception as error:  # whatever a kernel raises where it is not supported
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def tolerance(dtype: torch.dtype) -> float:
    """Return how far apart two right kernels may be, as a share of the largest value.

    Between one rounding (eps) and a lost half of the digits (its square root): 0.03 in bf16, 1e-5 in fp32.
    """
    return torch.finfo(dtype).eps ** 0.7


def _differences(
    kernel: Kernel,
    these: tuple[Block, ...],
    tokens: int,
    device: torch.device,
    dtype: torch.dtype,
    sizes: tuple[int, int, int],
) -> dict[str, float]:
    """Return the largest difference of output and gradients, each as a share of the largest true value."""
    heads, kv_heads, head_dim = sizes
    draw = torch.Generator().manual_seed(0)  # its own: the run's random numbers stay as they are
    shapes = [(heads, len(query_rows(these))), (kv_heads, tokens), (kv_heads, tokens)]
    inputs = [torch.randn(1, *shape, head_dim, generator=draw).to(device, dtype) for shape in shapes]
    weights = torch.randn(inputs[0].shape, generator=draw).to(device, dtype)
    plan = kernel.plan(these, tokens, str(device))
    scale = head_dim**-0.5
    mask = _mask(these, tokens).to(device)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return kernel.attend(query, key, value, plan, scale)

    def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _masked_sdpa(query, key, value, mask, scale)

    with torch.autocast(device.type, enabled=False):
        found = _with_gradients(attend, inputs, weights)
        truth = _with_gradients(masked, [tensor.double() for tensor in inputs], weights.double())
    names = ("output", "query gradient", "key gradient", "value gradient")
    return {
        name: float((one.double() - other).abs().max() / other.abs().max())
        for name, one, other in zip(names, found, truth, strict=True)
    }


def _with_gradients(attend: Callable[..., Tensor], inputs: list[Tensor], weights: Tensor) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = attend(*leaves)
    return [output.detach(), *torch.autograd.grad(output, leaves, weights)]


def _masked_sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    repeats = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(repeats, dim=1) for tensor in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def _mask(these: Sequence[Block], tokens: int) -> Tensor:
    """Return which token each query may see, shape (queries, tokens)."""
    seen = torch.zeros(len(query_rows(these)), tokens, dtype=torch.bool)
    first = 0
    for block in these:
        keys = rows_of([block.prefix, block.own])
        corner = torch.ones(block.num_queries, block.num_keys, dtype=torch.bool)
        seen[first : first + block.num_queries, keys] = corner.tril(block.num_keys - block.num_queries)
        first += block.num_queries
    return seen


def _refused(asked: str, why_not: str) -> Choice:
    raise UsageError(
        f'"{asked}" does not work here: {why_not}',
        where="engine.attention",
        fix="Use auto, which takes the fastest that works.",
    )
