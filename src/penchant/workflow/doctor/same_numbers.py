"""What would make two runs of one seed differ."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from penchant.workflow.doctor.finding import Finding

_GROUP = "same numbers"


def same_numbers() -> Iterator[Finding]:
    """Yield what decides whether bits repeat: threads, cuBLAS, TF32."""
    what = f"bits repeat with the same number of threads (now {torch.get_num_threads()})"
    yield Finding(_GROUP, "threads", "ok", what)
    if os.environ.get("OMP_DYNAMIC", "").lower() in ("1", "true"):
        what = "OMP_DYNAMIC lets the number of threads change while it runs"
        yield Finding(_GROUP, "OMP_DYNAMIC", "warning", what, "unset OMP_DYNAMIC")
    if not torch.cuda.is_available():
        return
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):
        what = "matrix products may differ in their last bits from run to run"
        yield Finding(_GROUP, "cuBLAS", "warning", what, "export CUBLAS_WORKSPACE_CONFIG=:4096:8")
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        what = "fp32 products are computed with 10 bits of precision"
        yield Finding(_GROUP, "TF32", "warning", what, "unset NVIDIA_TF32_OVERRIDE")
