"""How long the attention of one layer takes over packed pairs, forward and backward, by kernel.

    python bench/gpu_attention.py --out bench/gpu_attention.md

Rows of pairs with a shared prompt are made of random numbers; what is timed is what a layer does: gathering keys
and values, and the kernel. "sdpa" is PyTorch's scaled dot-product attention, a response at a time; "dense mask" is
one call of it over the whole row. A kernel that cannot run says why. Writes Markdown with machine, versions and
command.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from penchant.batching.attention_plan import Block, blocks, query_rows, rows_of
from penchant.batching.pair_batch import Segment
from penchant.models.attention_check import KERNELS
from penchant.workflow.setup import describe_machine

# prompt, response (both of a pair are as long)
LENGTHS = {"short pairs": (128, 45), "long prompts": (384, 64), "long responses": (64, 256)}
MODELS = {"135M (9 / 3 heads of 64)": (9, 3, 64), "1.7B (16 / 8 heads of 128)": (16, 8, 128)}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def row_of_pairs(prompt: int, response: int, tokens: int) -> tuple[Segment, ...]:
    """Return as many pairs as fit into `tokens`, at least one."""
    length = prompt + 2 * response
    return tuple(Segment(i * length, prompt, (response, response)) for i in range(max(1, tokens // length)))


def attention_of(name: str, these: tuple[Block, ...], tokens: int, head_dim: int, device: str) -> Attend:
    """Return the attention of a row, with everything done that is done once a micro-batch."""
    scale = head_dim**-0.5
    if name == "sdpa":
        masks = [lower_right(block, device) for block in these]
        return lambda q, k, v: one_at_a_time(q, k, v, these, masks, scale)
    if name == "dense mask":
        mask = dense_mask(these, tokens).to(device)
        return lambda q, k, v: masked(q, k, v, mask, scale)
    plan = KERNELS[name].plan(these, tokens, device)
    return lambda q, k, v: KERNELS[name].attend(q, k, v, plan, scale)


def masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return SDPA under a mask, causal from the first key on when there is none."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale)


def one_at_a_time(
    query: Tensor, key: Tensor, value: Tensor, these: tuple[Block, ...], masks: list[Tensor | None], scale: float
) -> Tensor:
    """Return SDPA of each block in its turn."""
    outputs = []
    first = 0
    for block, mask in zip(these, masks, strict=True):
        own = query[:, :, first : first + block.num_queries]
        first += block.num_queries
        keys, values = (
            torch.cat([rows[:, :, slice(*block.prefix)], rows[:, :, slice(*block.own)]], dim=2)
            for rows in (key, value)
        )
        outputs.append(masked(own, keys, values, mask, scale))
    return torch.cat(outputs, dim=2)


def lower_right(block: Block, device: str) -> Tensor | None:
    """Return the mask of a block, None for a square one."""
    if block.num_queries == block.num_keys:
        return None
    whole = torch.ones(block.num_queries, block.num_keys, dtype=torch.bool, device=device)
    return whole.tril(block.num_keys - block.num_queries)


def dense_mask(these: tuple[Block, ...], tokens: int) -> Tensor:
    """Return which token each query sees, shape (queries, tokens)."""
    mask = torch.zeros(len(query_rows(these)), tokens, dtype=torch.bool)
    first = 0
    for block in these:
        corner = lower_right(block, "cpu")
        if corner is None:
            corner = torch.ones(block.num_queries, block.num_keys, dtype=torch.bool).tril()
        mask[first : first + block.num_queries, rows_of([block.prefix, block.own])] = corner
        first += block.num_queries
    return mask


def milliseconds(attend: Attend, inputs: list[Tensor], repeats: int) -> float:
    """Return the median time of a forward and backward pass, after three to warm up."""
    weights = torch.randn_like(inputs[0])

    def once() -> float:
        synchronize(inputs[0])
        started = time.perf_counter()
        torch.autograd.grad(attend(*inputs), inputs, weights)
        synchronize(inputs[0])
        return time.perf_counter() - started

    times = [once() for _ in range(3 + repeats)][3:]
    return 1e3 * statistics.median(times)


def synchronize(tensor: Tensor) -> None:
    """Wait for the device, where there is one to wait for."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def cell(
    name: str, segments: tuple[Segment, ...], model: tuple[int, int, int], options: argparse.Namespace
) -> str:
    """Return a kernel's time in milliseconds, or why it has none."""
    heads, kv_heads, head_dim = model
    these = blocks(segments)
    tokens = sum(segment.length for segment in segments)
    shapes = [(1, count, tokens, head_dim) for count in (heads, kv_heads, kv_heads)]
    dtype = DTYPES[options.dtype]
    inputs = [torch.randn(shape, device=options.device, dtype=dtype, requires_grad=True) for shape in shapes]
    try:
        attend = attention_of(name, these, tokens, head_dim, options.device)
        return f"{milliseconds(attend, inputs, options.repeats):.3f}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:60]}"


def report(options: argparse.Namespace) -> str:
    """Return the page."""
    names = ["sdpa", "dense mask", *KERNELS]
    lines = [
        "# Attention over packed pairs",
        "",
        f"{describe_machine(options.device)}; torch {torch.__version__}, CUDA {torch.version.cuda}; "
        f"{options.dtype}; {datetime.datetime.now(tz=datetime.UTC).date()}; `{shlex.join(['python', *sys.argv])}`",
        "",
        f"Milliseconds of one layer's attention, forward and backward, median of {options.repeats} after 3.",
        "",
        f"| heads | pairs | tokens | {' | '.join(names)} |",
        "|---" * (3 + len(names)) + "|",
    ]
    for model, sizes in MODELS.items():
        for lengths, (prompt, response) in LENGTHS.items():
            for wanted in options.tokens:
                segments = row_of_pairs(prompt, response, wanted)
                cells = [cell(name, segments, sizes, options) for name in names]
                tokens = sum(segment.length for segment in segments)
                what = f"{len(segments)} {lengths} ({prompt} / {response})"
                lines.append(f"| {model} | {what} | {tokens} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time the kernels and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Markdown file; printed when left out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192, 16384])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    page = report(options)
    if options.out is None:
        print(page, end="")
    else:
        options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
