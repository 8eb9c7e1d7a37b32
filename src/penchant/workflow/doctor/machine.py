"""Devices, cores and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from penchant.models.activation_memory import free_bytes
from penchant.workflow.doctor.finding import Finding

LITTLE_MEMORY_BYTES = 2 * 2**30  # the demo, on 135 million parameters, takes 1.3 GB at its peak


def devices() -> Iterator[Finding]:
    """Yield the accelerators that torch finds, or why there is none."""
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "ok", "Apple's GPU")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            size = f"{about.total_memory / 2**30:.0f} GiB, compute capability {about.major}.{about.minor}"
            yield Finding("devices", f"cuda:{index}", "ok", f"{about.name}, {size}")
    elif torch.version.cuda is None:
        yield Finding("devices", "cpu", "ok", "this build of torch has no CUDA")
    else:
        what = f"torch is built for CUDA {torch.version.cuda} and finds no device"
        remedy = (
            "nvidia-smi shows what the driver sees; echo $CUDA_VISIBLE_DEVICES; without a GPU the CPU does it all"
        )
        yield Finding("devices", "cuda", "warning", what, remedy)


def processor() -> Iterator[Finding]:
    """Yield threads, cores and instruction set."""
    there, threads = cores(), torch.get_num_threads()
    what = f"{threads} threads on {there} cores, {torch.backends.cpu.get_cpu_capability()}"
    if threads > there:
        yield Finding("processor", "threads", "warning", what, f"export OMP_NUM_THREADS={there}")
    else:
        yield Finding("processor", "threads", "ok", what)


def memory() -> Iterator[Finding]:
    """Yield the memory that is free: of the machine or of the container, whichever is less, and of each GPU."""
    if (free := free_bytes(torch.device("cpu"))) is not None:
        yield memory_finding("memory", free, total_bytes())
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            unused, whole = torch.cuda.mem_get_info(index)
            yield memory_finding(f"cuda:{index}", unused, whole)


def memory_finding(name: str, free: int, whole: int | None) -> Finding:
    """Return whether so much free memory, in bytes, is enough for the smallest things that Penchant does."""
    what = f"{free / 2**30:.1f} GiB free" + (f" of {whole / 2**30:.1f} GiB" if whole else "")
    if free >= LITTLE_MEMORY_BYTES:
        return Finding("memory", name, "ok", what)
    remedy = (
        "end other programs; then --set engine.micro_batch_tokens=512 takes less (penchant plan says how much)"
    )
    return Finding("memory", name, "warning", what, remedy)


def total_bytes() -> int | None:
    """Return the memory of the machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def cores() -> int:
    """Return the cores that this process may use, a container's quota included."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, cpu_quota() or there)


def cpu_quota(root: Path = Path("/")) -> int | None:
    """Return the cores that a container's quota comes to, at least one; None without a quota."""
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))
