"""The state of every random number generator of this process, as tensors and plain integers.

A run draws nothing from them: the order of its pairs is a function of seed and epoch, and whoever needs random
numbers has a generator of his own. They are kept so that a resume can prove it.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def rng_tensors() -> dict[str, Tensor]:
    """Return the states of torch's generators, uint8: `torch`, and `cuda-N` of each CUDA device in use."""
    states = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda-{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def rng_numbers() -> dict[str, Any]:
    """Return the states of Python's and NumPy's generators as plain data."""
    version, words, gauss = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    return {
        "python": {"version": version, "words": list(words), "gauss": gauss},
        "numpy": {
            "kind": state["bit_generator"],
            "words": [int(word) for word in state["state"]["key"]],
            "position": int(state["state"]["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        },
    }


def restore_rng(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Put every generator back; devices that are not there any more are passed over.

    Args:
        tensors: See `rng_tensors`.
        numbers: See `rng_numbers`.
    """
    torch.set_rng_state(tensors["torch"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if f"cuda-{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda-{index}"], index)
    python, numpy = numbers["python"], numbers["numpy"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    words = np.array(numpy["words"], dtype=np.uint32)
    np.random.set_state((numpy["kind"], words, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
