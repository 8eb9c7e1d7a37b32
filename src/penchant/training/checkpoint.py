"""Checkpoints: the trained weights and the optimizer's state, whole or not there.

A checkpoint is written to a hidden folder, every file flushed, a manifest of SHA-256 sums written last, and the
folder renamed. Loading takes the newest one whose manifest holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from penchant.data.atomic import disk_errors
from penchant.errors import ModelError

_KEPT = 2
_WEIGHTS, _OPTIMIZER, _STATE, _MANIFEST = (
    "trained.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict[str, Any]
) -> Path:
    """Write `step-N` below `folder`, then drop all but the newest two.

    Args:
        folder: The run's `checkpoints`.
        step: Optimizer steps done.
        model: Its trained parameters are saved; the frozen ones are those of the reference.
        optimizer: AdamW, by the order of the trained parameters.
        identity: What a resume must find unchanged.

    Raises:
        DiskError: There is no room or no permission; older checkpoints are untouched.
    """
    target = folder / f"step-{step}"
    with disk_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=f".step-{step}."))
        try:
            save_file(_trained(model), unfinished / _WEIGHTS)
            save_file(_optimizer_tensors(optimizer), unfinished / _OPTIMIZER)
            (unfinished / _STATE).write_text(json.dumps({"step": step, **identity}), encoding="utf-8")
            sums = {name: _sha256(unfinished / name) for name in (_WEIGHTS, _OPTIMIZER, _STATE)}
            (unfinished / _MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
            for name in (*sums, _MANIFEST):
                _flush(unfinished / name)
            if target.exists():
                shutil.rmtree(target)
            os.replace(unfinished, target)
            _flush(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    for old in sorted(_steps(folder))[:-_KEPT]:
        shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    return target


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files match their sums, or None when there is none at all.

    Raises:
        ModelError: There are checkpoints, and every one is damaged.
    """
    steps = sorted(_steps(folder), reverse=True)
    for step in steps:
        if _holds(folder / f"step-{step}"):
            return folder / f"step-{step}"
    if steps:
        names = ", ".join(f"step-{step}" for step in steps)
        raise ModelError(f"every checkpoint is damaged ({names})", where=str(folder), fix="Start the run anew.")
    return None


def check_identity(path: Path, identity: dict[str, Any]) -> None:
    """Refuse a checkpoint that was made by something else.

    Raises:
        ModelError: It was made by another configuration, data set or model; the differences are named.
    """
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    changed = [name for name, value in identity.items() if state.get(name) != value]
    if changed:
        raise ModelError(
            f"this run was started with another {', another '.join(changed)}",
            where=str(path),
            fix="Resume with what it was started with, or choose a new --out.",
        )


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict[str, Any]
) -> int:
    """Put a checkpoint's state into model and optimizer; return the optimizer steps done.

    Raises:
        ModelError: See `check_identity`.
    """
    check_identity(path, identity)
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    weights = load_file(path / _WEIGHTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])
    tensors = load_file(path / _OPTIMIZER)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return int(state["step"])


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value.contiguous() for index, item in state.items() for name, value in item.items()}


def _steps(folder: Path) -> list[int]:
    names = [path.name.removeprefix("step-") for path in folder.glob("step-*")]
    return [int(name) for name in names if name.isdigit()]


def _holds(path: Path) -> bool:
    try:
        sums = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        return set(sums) == {_WEIGHTS, _OPTIMIZER, _STATE} and all(
            _sha256(path / name) == expected for name, expected in sums.items()
        )
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
