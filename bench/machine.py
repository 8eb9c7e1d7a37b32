"""How fast this machine multiplies matrices, and what it is: prints one JSON object.

    python -m bench.machine

The rates are those of torch itself at the shapes that training is made of: rows x inputs x outputs.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from statistics import median
from typing import Any

import torch

from penchant.workflow.setup import describe_machine

LAYER, HEAD, SQUARE = (2048, 576, 1536), (720, 576, 49152), (4096, 4096, 4096)
SHAPES = (LAYER, HEAD, SQUARE)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LIBRARIES = ("penchant", "torch", "transformers", "trl", "peft", "accelerate")
_SECONDS = 2.0


def shape_name(shape: tuple[int, int, int]) -> str:
    """Return rows x inputs x outputs in words."""
    return "x".join(map(str, shape))


def rate(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
    """Return FLOP/s of `rows @ weight.T`, the median of as many products as fit into two seconds."""
    rows, inputs, outputs = shape
    left, weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    seconds: list[float] = []
    torch.nn.functional.linear(left, weight)
    while sum(seconds) < _SECONDS:
        started = time.perf_counter()
        torch.nn.functional.linear(left, weight)
        seconds.append(time.perf_counter() - started)
    return 2 * rows * inputs * outputs / median(seconds)


def describe() -> dict[str, Any]:
    """Return processor, threads, versions and rates (FLOP/s by dtype and shape)."""
    return {
        "processor": describe_machine("cpu"),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "rates": {
            name: {shape_name(shape): rate(shape, dtype) for shape in SHAPES} for name, dtype in DTYPES.items()
        },
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    print(json.dumps(describe()))
