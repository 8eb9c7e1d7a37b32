"""Memory given back between the stages of a run, and what to do when there is too little."""

from __future__ import annotations

import ctypes
import gc
import mmap
from collections.abc import Iterable

import torch

_MADV_PAGEOUT = 21  # of Linux 5.4; unlike MADV_DONTNEED it cannot lose what was written


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


def page_out(tensors: Iterable[torch.Tensor]) -> None:
    """Ask the system to take back the memory of tensors that are not needed for some time; their values stay.

    Weights that were read from a file lie in pages of that file, which the system can drop and read again when
    somebody asks. Where it does not know the request (it is Linux's), nothing happens.
    """
    page = mmap.PAGESIZE
    try:
        madvise = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return
    for tensor in tensors:
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            continue
        start = -(-tensor.data_ptr() // page) * page
        length = (tensor.data_ptr() + tensor.nbytes) // page * page - start
        if length > 0:
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_PAGEOUT)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there was not enough memory, of an accelerator or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's allocator for CPU memory has no class of its own
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
