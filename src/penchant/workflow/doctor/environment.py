"""Variables that change what Penchant and the libraries below it do; of keys only whether they are set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from penchant.workflow.doctor.finding import Finding

SHOWN = (  # their values are paths and switches
    "PENCHANT_CACHE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "NO_COLOR",
    "PYTHONUTF8",
)
KEYS = ("HF_TOKEN", "OPENAI_API_KEY")
ONLY_SET = ("HTTP_PROXY", "HTTPS_PROXY", "HF_ENDPOINT", "OPENAI_BASE_URL")  # an address may hold a password


def environment(variables: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield the variables that are set, and for each key whether it is."""
    for name in SHOWN:
        if name in variables:
            yield Finding("environment", name, "ok", variables[name] or "(empty)")
    for name in (*KEYS, *ONLY_SET):
        there = bool(variables.get(name) or variables.get(name.lower()))
        if there or name in KEYS:
            yield Finding("environment", name, "ok", "set" if there else "not set")
