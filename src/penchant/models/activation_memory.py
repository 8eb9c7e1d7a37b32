"""What the trained layers keep for the backward pass, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Segment
from penchant.models.attention import packed_attention
from penchant.models.freeze import decoder, layers
from penchant.models.precision import Precision, compute_in
from penchant.models.trunk import Part, run_part, split_decoder

_SPARE = 0.1  # of what is free: score blocks, and what an allocator loses between its blocks
_PROBE_TOKENS = 64


def needs_checkpointing(predicted_bytes: int, available_bytes: int | None) -> bool:
    """Return whether activations are too many to be kept.

    Args:
        predicted_bytes: What the trained layers would keep for the backward pass of the largest micro-batch.
        available_bytes: What is free for that, less than nothing if other things do not fit either; None when
            nobody knows, and then they are kept.
    """
    return available_bytes is not None and predicted_bytes > available_bytes


def predicted_bytes(
    model: PreTrainedModel, *, first_layer: int, tokens: int, precision: Precision, kernel: str | None
) -> int:
    """Return what the layers from `first_layer` on keep for the backward pass of some tokens, bytes.

    One layer is run on two short rows, and the straight line through what it kept is followed to `tokens`.

    Args:
        model: The policy.
        first_layer: The lowest layer that is trained; as many as there are means none.
        tokens: Of the largest micro-batch.
        precision: What matrix products are computed in.
        kernel: The attention of packed rows; None when sequences are computed apart.
    """
    count = len(layers(decoder(model)))
    if first_layer == count:
        return 0
    part = split_decoder(model, sorted({first_layer, first_layer + 1} - {0, count}))[min(first_layer, 1)]

    def kept(rows: int) -> int:
        return bytes_kept(lambda: _run_layer(part, rows, precision, kernel), model.parameters())

    short, long = kept(_PROBE_TOKENS), kept(2 * _PROBE_TOKENS)
    slope = (long - short) / _PROBE_TOKENS
    return round((count - first_layer) * (short + slope * (tokens - _PROBE_TOKENS)))


def _run_layer(part: Part, tokens: int, precision: Precision, kernel: str | None) -> Tensor:
    config, device = part.module.config, part.module.device
    inputs = torch.zeros(tokens, config.hidden_size, device=device, requires_grad=True)
    positions = torch.arange(tokens, device=device)[None]
    with torch.enable_grad(), compute_in(precision, str(device)):
        if kernel is None:
            run: Any = part.module
            return run(inputs_embeds=inputs[None], position_ids=positions, use_cache=False).last_hidden_state
        quarter = tokens // 4
        segments = (Segment(0, tokens - 2 * quarter, (quarter, quarter)),)
        return run_part(part, inputs, positions, packed_attention(kernel, blocks(segments), tokens, device))


def bytes_kept(run: Callable[[], Any], parameters: Iterable[Tensor] = ()) -> int:
    """Return the bytes that autograd keeps for the backward pass of what `run` returns, without `parameters`."""
    others = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        # a node that held the tensor itself might hold its own output: a circle that nobody ever frees
        kept.append(tensor.detach())
        return kept[-1]

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    # all are alive until all are counted, so that no address is used twice
    found = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for address, size in found.items() if address not in others)


def available_bytes(model: PreTrainedModel) -> int | None:
    """Return what is free on the model's device for activations, bytes; None where that cannot be asked.

    Gradients and two moments of what is trained are still to come. On a CPU so is a copy of the trained weights:
    until their first update they are pages of a file.
    """
    free = free_bytes(model.device)
    if free is None:
        return None
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return round((1 - _SPARE) * free) - (16 if model.device.type == "cpu" else 12) * trained


def free_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Return the memory that is free on a device; None where that cannot be asked.

    On Linux the smaller of what the machine has and what the control group (a container, a batch job) allows.

    Args:
        device: The device.
        root: Where the system's own files are.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    memory = root / "sys" / "fs" / "cgroup"
    found = [
        _kilobytes(root / "proc" / "meminfo", "MemAvailable"),
        _group_free(memory, "memory.max", "memory.current"),
        _group_free(memory / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    return min((size for size in found if size is not None), default=None)


def resident_bytes(root: Path = Path("/")) -> int:
    """Return the memory that this process has now; 0 where that cannot be asked."""
    return _kilobytes(root / "proc" / "self" / "status", "VmRSS") or 0


def _kilobytes(file: Path, wanted: str) -> int | None:
    """A figure of a file of lines like `NAME: 123 kB`, in bytes."""
    for line in _read(file).splitlines():
        name, _, size = line.partition(":")
        if name == wanted:
            return int(size.split()[0]) * 1024
    return None


def _group_free(folder: Path, limit: str, usage: str) -> int | None:
    """Limit minus use, where pages of files that the system would drop at once are no use."""
    most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not (most.isdigit() and used.isdigit()):
        return None  # no limit ("max"), or no such group
    counters = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
    return int(most) - int(used) + int(counters.get("inactive_file", 0))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
