"""What matrix products are computed in, and on which device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

from penchant.errors import UsageError
from penchant.processes import local_rank, started_together

Precision = Literal["fp32", "bf16"]


def choose_device(name: str) -> str:
    """Return the device that a name stands for; "auto" takes CUDA, then MPS, then the CPU.

    Of several processes on one machine each takes a CUDA device of its own.

    Raises:
        UsageError: The device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available.get(name.split(":", maxsplit=1)[0], False):
        have = ", ".join(kind for kind, there in available.items() if there)
        raise UsageError(f'engine.device = "{name}": there is no such device here (here: {have})')
    if name == "cuda" and started_together():
        return f"cuda:{local_rank()}"
    return name


def choose_precision(name: str, device: str) -> Precision:
    """Return what "auto" means on a device: bf16 where the hardware multiplies it faster than fp32."""
    if name in ("fp32", "bf16"):
        return name
    if device == "cpu":
        # AVX512-BF16 or AMX; elsewhere there is nothing to gain
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    return "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "fp32"


@contextlib.contextmanager
def compute_in(precision: Precision, device: str) -> Iterator[None]:
    """Run matrix products in `precision`; weights, residual stream, norms and softmax stay fp32.

    On a CPU oneDNN rounds the factors of an fp32 product to bf16 on its way in and sums in fp32, so tensors are
    fp32 throughout: no casts, and one rounding less than autocast, whose results are bf16. There the backward pass
    must run in this context too. Elsewhere autocast.
    """
    if precision == "fp32":
        yield
    elif device.startswith("cpu"):
        with _cpu_products("bf16"):
            yield
    else:
        with torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16):
            yield


def autocast_to(precision: Precision, device: str) -> contextlib.AbstractContextManager[Any]:
    """Run what is never differentiated in autocast on every device; weights that are bf16 already make it fast."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16)


def exact_products() -> contextlib.AbstractContextManager[None]:
    """Take fp32 products as they are, also within `compute_in`: torch's attention on a CPU is slow in bf16."""
    return _cpu_products("ieee")


@contextlib.contextmanager
def _cpu_products(kind: str) -> Iterator[None]:
    products: Any = torch.backends.mkldnn
    before = products.matmul.fp32_precision
    products.matmul.fp32_precision = kind
    try:
        yield
    finally:
        products.matmul.fp32_precision = before
