"""Checkpoints: the trained weights and the optimizer's state, whole or not there.

A checkpoint is written to a hidden folder, every file flushed, a manifest of SHA-256 sums written last, and the
folder renamed. Loading takes the newest one whose manifest holds. `best-N` beside them is the same for the weights
alone that validated best.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from penchant.data.atomic import disk_errors
from penchant.errors import ModelError

_KEPT = 2
_WEIGHTS, _OPTIMIZER, _REFERENCE, _STATE, _MANIFEST = (
    "trained.safetensors",
    "optimizer.safetensors",
    "reference.safetensors",
    "state.json",
    "manifest.json",
)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, Any],
    *,
    validation: dict[str, Any] | None = None,
    reference: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write `step-N` below `folder`, then drop all but the newest two.

    Args:
        folder: The run's `checkpoints`.
        step: Optimizer steps done.
        model: Its trained parameters are saved; the frozen ones are those of the reference.
        optimizer: Its state is saved by the order of the trained parameters.
        identity: What a resume must find unchanged.
        validation: What validations came to so far, for `validation_state`.
        reference: The trained part of a reference that moves, for `load_reference`.

    Raises:
        DiskError: There is no room or no permission; older checkpoints are untouched.
    """
    tensors, plain = _optimizer_state(optimizer)
    state = {"step": step, "optimizer": plain, "validation": validation, **identity}
    files = {_WEIGHTS: _trained(model), _OPTIMIZER: tensors} | ({_REFERENCE: reference} if reference else {})
    target = _write(folder / f"step-{step}", files, state)
    for old in sorted(_steps(folder))[:-_KEPT]:
        shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    return target


def save_best(folder: Path, step: int, model: nn.Module) -> Path:
    """Write the trained weights to `best-N`, then drop those that no checkpoint in the folder counts as the best.

    Raises:
        DiskError: There is no room or no permission; what was there is untouched.
    """
    target = _write(folder / f"best-{step}", {_WEIGHTS: _trained(model)}, {"step": step})
    states = [validation_state(folder / f"step-{one}") for one in _steps(folder)]
    wanted = {step, *(state.get("step") for state in states)}
    for old in set(_steps(folder, "best")) - wanted:
        shutil.rmtree(folder / f"best-{old}", ignore_errors=True)
    return target


def load_reference(path: Path) -> dict[str, torch.Tensor]:
    """Return the reference that a checkpoint kept.

    Raises:
        ModelError: It kept none.
    """
    if not (path / _REFERENCE).is_file():
        raise ModelError("the checkpoint holds no reference", where=str(path), fix="Start the run anew.")
    return load_file(path / _REFERENCE)


def load_best(folder: Path, step: int, model: nn.Module) -> None:
    """Put the weights of `best-N` into the model.

    Raises:
        ModelError: See `check_best`.
    """
    check_best(folder, step)
    _load_trained(model, folder / f"best-{step}")


def check_best(folder: Path, step: int) -> None:
    """Refuse to go on without the weights that were best so far.

    Raises:
        ModelError: They are not there, or not whole.
    """
    path = folder / f"best-{step}"
    if not _holds(path, {_WEIGHTS, _STATE}):
        raise ModelError(
            f"the weights that validated best, those of step {step}, are damaged or gone",
            where=str(path),
            fix="Start the run anew.",
        )


def validation_state(path: Path) -> dict[str, Any]:
    """Return what validations had come to at a checkpoint; {} where there were none, or it cannot be read."""
    try:
        return json.loads((path / _STATE).read_text(encoding="utf-8"))["validation"] or {}
    except (OSError, ValueError, KeyError):
        return {}


def _write(target: Path, files: dict[str, dict[str, torch.Tensor]], state: dict[str, Any]) -> Path:
    """Write tensors and state to a folder that is there as a whole or not at all."""
    folder = target.parent
    with disk_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=f".{target.name}."))
        try:
            for name, tensors in files.items():
                save_file(tensors, unfinished / name)
            (unfinished / _STATE).write_text(json.dumps(state), encoding="utf-8")
            sums = {name: _sha256(unfinished / name) for name in (*files, _STATE)}
            (unfinished / _MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
            for name in (*sums, _MANIFEST):
                _flush(unfinished / name)
            if target.exists():
                shutil.rmtree(target)
            os.replace(unfinished, target)
            _flush(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
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
    _load_trained(model, path)
    states: dict[int, dict[str, Any]] = {}
    for key, value in {**load_file(path / _OPTIMIZER), **state["optimizer"]}.items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return int(state["step"])


def _load_trained(model: nn.Module, path: Path) -> None:
    weights = load_file(path / _WEIGHTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and plain numbers of an optimizer's state, each by the number of its parameter and its own name."""
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, Any] = {}
    places: set[int] = set()
    for index, item in optimizer.state_dict()["state"].items():
        for name, value in _flat(item):
            if not torch.is_tensor(value):
                plain[f"{index}.{name}"] = value
                continue
            shared = value.data_ptr() in places  # a table that matrices have in common is written for each of them
            places.add(value.data_ptr())
            tensors[f"{index}.{name}"] = value.clone() if shared else value.contiguous()
    return tensors, plain


def _flat(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if isinstance(value, dict):  # bitsandbytes gathers what is quantised under a name of its own
            yield from _flat(value)
        else:
            yield name, value


def _steps(folder: Path, kind: str = "step") -> list[int]:
    names = [path.name.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*")]
    return [int(name) for name in names if name.isdigit()]


def _holds(path: Path, files: Set[str] = frozenset({_WEIGHTS, _OPTIMIZER, _STATE})) -> bool:
    try:
        sums = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        return files <= set(sums) and all(_sha256(path / name) == expected for name, expected in sums.items())
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
