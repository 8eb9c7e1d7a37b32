"""What this machine and this installation are fit for: looked at, said in one line each, with the remedy.

The versions that Penchant needs are read from its own package metadata, so there is one list of them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement
from packaging.version import Version

from penchant.models.activation_memory import free_bytes
from penchant.models.attention_check import KERNELS, failure
from penchant.models.bundled import cache_directory

State = Literal["ok", "warning", "error"]

LITTLE_DISK_BYTES, NO_DISK_BYTES = 10 * 2**30, 2**30
_TRIED = (9, 3, 64)  # query heads, key-value heads and head size of the bundled model
_OPTIONAL = {
    "bitsandbytes": "frozen weights in 4 bits (model.load_in_4bit); CUDA only",
    "trackio": "runs in a tracker of your own",
    "trl": "the comparison that `make bench` does",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: What it belongs to, such as "versions".
        name: What it is.
        state: `error` needs mending before Penchant is used; `warning` costs speed, exactness or comfort.
        what: What was found, one line.
        remedy: What to do about it; empty when it is ok.
    """

    group: str
    name: str
    state: State
    what: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Return everything that was looked at, group by group."""
    parts: Sequence[Callable[[], Iterator[Finding]]] = (
        _versions,
        _devices,
        _processor,
        _disk,
        _same_numbers,
        _several_processes,
        _optional,
        _surroundings,
    )
    return [finding for part in parts for finding in part()]


def version_findings(requirements: Sequence[str], installed: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each requirement of a package.

    Args:
        requirements: As package metadata lists them; those of extras are passed over.
        installed: Version by name of what is there.
    """
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, wanted = requirement.name, str(requirement.specifier)
        found = installed.get(name)
        remedy = f"pip install '{name}{wanted}', or `make env` in a clone of Penchant"
        if found is None:
            yield Finding("versions", name, "error", f"not installed; {wanted} is needed", remedy)
        elif requirement.specifier.contains(found, prereleases=True):
            yield Finding("versions", name, "ok", found)
        elif any(
            Version(found) < Version(each.version) for each in requirement.specifier if each.operator == ">="
        ):
            yield Finding("versions", name, "error", f"{found} is too old; {wanted} is needed", remedy)
        else:
            yield Finding("versions", name, "warning", f"{found} is newer than what is tested ({wanted})", remedy)


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "Python", "ok", platform.python_version())
    try:
        requirements = importlib.metadata.requires("penchant") or []
    except importlib.metadata.PackageNotFoundError:
        remedy = "pip install -e . in a clone of Penchant, or `make env`"
        yield Finding("versions", "penchant", "error", "not installed as a package", remedy)
        return
    names = {Requirement(line).name for line in requirements}
    yield from version_findings(requirements, {name: version for name in names if (version := _version(name))})


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            yield Finding("devices", "cpu", "ok", "this build of torch has no CUDA")
        else:
            yield Finding(
                "devices",
                "cuda",
                "warning",
                f"torch is built for CUDA {torch.version.cuda} and finds no device",
                "look at `nvidia-smi`, and at CUDA_VISIBLE_DEVICES; without a GPU all of this runs on the CPU",
            )
        if torch.backends.mps.is_available():
            yield Finding("devices", "mps", "ok", "Apple's GPU")
        yield Finding("devices", "attention", "ok", "sdpa (varlen and flex need CUDA)")
        return
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        size = f"{about.total_memory / 2**30:.0f} GiB, compute capability {about.major}.{about.minor}"
        yield Finding("devices", f"cuda:{index}", "ok", f"{about.name}, {size}")
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    for name, kernel in KERNELS.items():
        wrong = failure(kernel, torch.device("cuda"), dtype, *_TRIED)
        if wrong is None:
            yield Finding("devices", f"attention {name}", "ok", "agrees with sdpa here, forward and backward")
        else:
            remedy = "none needed: the next kernel that agrees is used; another version of torch may serve it"
            yield Finding("devices", f"attention {name}", "warning", wrong, remedy)


def _processor() -> Iterator[Finding]:
    cores, threads = _cores(), torch.get_num_threads()
    what = f"{threads} threads on {cores} cores, {torch.backends.cpu.get_cpu_capability()}"
    if threads > cores:
        yield Finding("processor", "threads", "warning", what, f"export OMP_NUM_THREADS={cores}")
    else:
        yield Finding("processor", "threads", "ok", what)
    if (free := free_bytes(torch.device("cpu"))) is not None:
        yield Finding("processor", "memory", "ok", f"{free / 2**30:.1f} GiB free")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _disk() -> Iterator[Finding]:
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    places = (
        ("runs", Path.cwd(), "here"),
        ("cache", cache_directory(), "PENCHANT_CACHE"),
        ("models", hub, "HF_HOME"),
    )
    for name, folder, setting in places:
        yield disk_finding(name, folder, setting)


def disk_finding(name: str, folder: Path, setting: str) -> Finding:
    """Return whether a folder, or the nearest above it that exists, can be written to and has room.

    Args:
        name: What lies there.
        folder: Where; it need not exist.
        setting: What moves it elsewhere.
    """
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))
    remedy = "start from a folder with room" if setting == "here" else f"point {setting} to a folder with room"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding("disk", name, "error", f"{folder}: cannot be written ({error.strerror})", remedy)
    what = f"{folder}: {free / 2**30:.1f} GiB free"
    if free < LITTLE_DISK_BYTES:
        return Finding("disk", name, "error" if free < NO_DISK_BYTES else "warning", what, remedy)
    return Finding("disk", name, "ok", what)


def _same_numbers() -> Iterator[Finding]:
    """What would make two runs of one seed differ."""
    group = "same numbers"
    yield Finding(
        group, "threads", "ok", f"bits repeat with the same number of threads (now {torch.get_num_threads()})"
    )
    if os.environ.get("OMP_DYNAMIC", "").lower() in ("1", "true"):
        what = "OMP_DYNAMIC lets the number of threads change while it runs"
        yield Finding(group, "OMP_DYNAMIC", "warning", what, "unset OMP_DYNAMIC")
    if not torch.cuda.is_available():
        return
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):
        yield Finding(
            group,
            "cuBLAS",
            "warning",
            "matrix products may differ in their last bits from run to run",
            "export CUBLAS_WORKSPACE_CONFIG=:4096:8",
        )
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        what = "fp32 products are computed with 10 bits of precision"
        yield Finding(group, "TF32", "warning", what, "unset NVIDIA_TF32_OVERRIDE")


def _several_processes() -> Iterator[Finding]:
    group = "several processes"
    if not torch.distributed.is_available():
        yield Finding(
            group, "torchrun", "warning", "this build of torch has none", "install torch from its wheels"
        )
        return
    if torch.distributed.is_gloo_available():
        yield Finding(group, "gloo", "ok", "available (CPU)")
    else:
        yield Finding(group, "gloo", "warning", "not in this build of torch", "install torch from its wheels")
    if torch.distributed.is_nccl_available():
        yield Finding(group, "nccl", "ok", "available (CUDA)")
    elif torch.cuda.device_count() > 1:
        yield Finding(group, "nccl", "error", "not in this build of torch", "install torch's CUDA build for Linux")
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        what = f"{socket.gethostname()} has no address, which processes need to find each other"
        remedy = "add it to /etc/hosts, or export GLOO_SOCKET_IFNAME=lo and NCCL_SOCKET_IFNAME=lo"
        yield Finding(group, "host name", "warning", what, remedy)


def _optional() -> Iterator[Finding]:
    for name, purpose in _OPTIONAL.items():
        version = _version(name)
        yield Finding("optional", name, "ok", f"{version or 'not installed'}: {purpose}")
    if importlib.util.find_spec("kernels") is not None:
        what = "installed: transformers can fetch compiled code with it; Penchant never asks it to"
        yield Finding("optional", "kernels", "warning", what, "pip uninstall kernels")


def _surroundings() -> Iterator[Finding]:
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    what = "HF_HUB_OFFLINE=1: only what is on this machine is read" if offline else "models and data by Hub id"
    yield Finding("surroundings", "Hub", "ok", what)
    yield Finding(
        "surroundings", "token", "ok", "HF_TOKEN is set" if os.environ.get("HF_TOKEN") else "no HF_TOKEN"
    )
