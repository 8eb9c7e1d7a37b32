"""What several processes need to work together."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import torch

from penchant.workflow.doctor.finding import Finding

_GROUP = "several processes"


def several_processes() -> Iterator[Finding]:
    """Yield the backends of this build of torch, and whether this machine can find itself by name."""
    if not torch.distributed.is_available():
        what = "this build of torch has none"
        yield Finding(_GROUP, "torchrun", "warning", what, "install torch from its wheels")
        return
    if torch.distributed.is_gloo_available():
        yield Finding(_GROUP, "gloo", "ok", "available (CPU)")
    else:
        yield Finding(_GROUP, "gloo", "warning", "not in this build of torch", "install torch from its wheels")
    if torch.distributed.is_nccl_available():
        yield Finding(_GROUP, "nccl", "ok", "available (CUDA)")
    elif torch.cuda.device_count() > 1:
        remedy = "install torch's CUDA build for Linux"
        yield Finding(_GROUP, "nccl", "error", "not in this build of torch", remedy)
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        what = f"{socket.gethostname()} has no address, which processes need to find each other"
        remedy = "add it to /etc/hosts, or export GLOO_SOCKET_IFNAME=lo and NCCL_SOCKET_IFNAME=lo"
        yield Finding(_GROUP, "host name", "warning", what, remedy)
