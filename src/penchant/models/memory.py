"""Memory given back between the stages of a run, and what to do when there is too little."""

from __future__ import annotations

import ctypes
import gc

import torch


def release_memory() -> None:
    """Give freed memory back to the system.

    After training, glibc's allocator keeps more than half a gigabyte of freed tensors for reuse, on top of which
    the next model would be loaded. Where there is another allocator, only Python's garbage is collected.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there was not enough memory, of an accelerator or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's allocator for CPU memory has no class of its own
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
