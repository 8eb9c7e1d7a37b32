"""What is in a checkpoint: trained weights, optimizer, generators, and where the run stood.

    trained.safetensors     the trained weights by name; the frozen ones are those of the reference
    optimizer.safetensors   the optimizer's tensors as `PARAMETER.NAME`, parameters counted
    reference.safetensors   the trained part of a reference that moves
    rng.safetensors         torch's random number generators
    state.json              the step, the rest of the optimizer's state, validations, Python's and NumPy's
                            generators, and the identity: what a resume must find unchanged

How it gets to the disk whole: `penchant.training.checkpoint_folder`. `best-N` beside `step-N` is the same for the
weights alone that validated best.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from penchant.errors import ModelError
from penchant.failpoints import failpoint
from penchant.processes import is_first
from penchant.training.checkpoint_folder import (
    Found,
    damage_of,
    drop_others,
    find_newest,
    steps_in,
    write_folder,
)
from penchant.training.checkpoint_tensors import (
    any_in_shards,
    bytes_of,
    names_in_shards,
    read_into,
    read_whole,
    write_shards,
    write_whole,
)
from penchant.training.checkpoint_together import write_folder_together
from penchant.training.identity import Change
from penchant.training.identity import check_identity as check_same
from penchant.training.parallel import own_part, trained_parameters
from penchant.training.rng_state import restore_rng, rng_numbers, rng_tensors

_KEPT = 2
_WEIGHTS, _OPTIMIZER, _REFERENCE, _RNG, _STATE = (
    "trained.safetensors",
    "optimizer.safetensors",
    "reference.safetensors",
    "rng.safetensors",
    "state.json",
)
_REQUIRED = frozenset({_WEIGHTS, _OPTIMIZER, _RNG, _STATE})
_BEST_REQUIRED = frozenset({_WEIGHTS, _STATE})
_PLAIN_BYTES = 1 << 16  # of state.json and the manifest, generously


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
    """Write `step-N` below `folder`, read it back, then drop all but the newest two. Every process calls this.

    Args:
        folder: The run's `checkpoints`.
        step: Optimizer steps done.
        model: Its trained parameters are saved; the frozen ones are those of the reference.
        optimizer: Its state is saved by the order of the trained parameters.
        identity: What a resume must find unchanged.
        validation: What validations came to so far, for `validation_state`.
        reference: The trained part of a reference that moves, for `load_reference`.

    Raises:
        DiskError: There is no room or no permission, or it cannot be read back; older checkpoints are untouched.
    """
    tensors, plain = _optimizer_state(optimizer)
    state = {"step": step, "optimizer": plain, "validation": validation, "rng": rng_numbers(), **identity}
    files = {_WEIGHTS: _trained(model), _OPTIMIZER: tensors, _RNG: rng_tensors()}
    target = _write(folder / f"step-{step}", files | ({_REFERENCE: reference} if reference else {}), state)
    if is_first():
        drop_old(folder)
    return target


def drop_old(folder: Path) -> None:
    """Remove all checkpoints but the newest two, once the newest is known to be whole."""
    drop_others(folder, set(sorted(steps_in(folder))[-_KEPT:]))


def save_best(folder: Path, step: int, model: nn.Module) -> Path:
    """Write the trained weights to `best-N`, then drop those that no checkpoint in the folder counts as the best.

    Raises:
        DiskError: There is no room or no permission; what was there is untouched.
    """
    target = _write(folder / f"best-{step}", {_WEIGHTS: _trained(model)}, {"step": step})
    if not is_first():
        return target
    states = [validation_state(folder / f"step-{one}") for one in steps_in(folder)]
    drop_others(folder, {step, *(state["step"] for state in states if state.get("step") is not None)}, "best")
    return target


def load_reference(path: Path, into: dict[str, torch.Tensor]) -> None:
    """Fill the weights of a reference, by name, with those that a checkpoint kept.

    Raises:
        ModelError: It kept none, or one of other weights.
    """
    if not (path / _REFERENCE).is_file():
        raise ModelError("the checkpoint holds no reference", where=str(path), fix="Start the run anew.")
    read_into(path, _REFERENCE, into)


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
    if damage := damage_of(path, _BEST_REQUIRED):
        raise ModelError(
            f"the weights that validated best, those of step {step}, are damaged or gone ({damage})",
            where=str(path),
            fix="Start the run anew.",
        )


def validation_state(path: Path) -> dict[str, Any]:
    """Return what validations had come to at a checkpoint; {} where there were none, or it cannot be read."""
    try:
        return checkpoint_state(path)["validation"] or {}
    except (OSError, ValueError, KeyError):
        return {}


def checkpoint_state(path: Path) -> dict[str, Any]:
    """Return the plain part of a checkpoint: `step`, `validation` and the identity among others.

    Raises:
        OSError: It cannot be read.
        ValueError: It is torn.
    """
    return json.loads((path / _STATE).read_text(encoding="utf-8"))


def find_checkpoint(folder: Path) -> Found:
    """Return the newest checkpoint that is whole, and what is wrong with the newer ones; nothing is changed.

    Raises:
        ModelError: There are checkpoints, and every one is damaged.
    """
    return find_newest(folder, _REQUIRED)


def checkpoint_damage(path: Path) -> str:
    """Return what is wrong with a checkpoint; "" when it is whole."""
    return damage_of(path, _REQUIRED)


def check_identity(path: Path, identity: dict[str, Any], allow: tuple[str, ...] = ()) -> list[Change]:
    """Return the allowed changes; refuse a checkpoint made by something else. See `penchant.training.identity`.

    Raises:
        ModelError: It was made by another configuration, data set or model; the differences are listed.
    """
    state = checkpoint_state(path)
    own = {"step", "optimizer", "validation", "rng"}
    was = {name: value for name, value in state.items() if name not in own}
    return check_same(was, identity, where=str(path), allow=allow)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint's state into model, optimizer and generators; return the optimizer steps done.

    Whether it is this run's is asked before, with `check_identity`.
    """
    state = checkpoint_state(path)
    _load_trained(model, path)
    states: dict[int, dict[str, Any]] = {}
    for key, value in {**_optimizer_tensors(path, optimizer), **state["optimizer"]}.items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    restore_rng(read_whole(path / _RNG), state["rng"])
    return int(state["step"])


def _optimizer_tensors(path: Path, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors as the processes of this run hold them, in shards where their parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = read_whole(path / _OPTIMIZER)
    like = {key: parameters[int(key.partition(".")[0])] for key in [*found, *names_in_shards(path, _OPTIMIZER)]}
    shared = {
        key: torch.zeros_like(parameter, requires_grad=False)
        for key, parameter in like.items()
        if key not in found or (isinstance(parameter, DTensor) and found[key].shape == parameter.shape)
    }
    read_into(path, _OPTIMIZER, shared)
    return {**found, **shared}


def _write(target: Path, files: dict[str, dict[str, torch.Tensor]], state: dict[str, Any]) -> Path:
    """Write a folder: what is whole by the first process, what is in shards by all of them."""

    def write(folder: Path) -> None:
        write_whole(folder, files)
        (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")
        failpoint("checkpoint.state_written")

    needed = bytes_of(files) + _PLAIN_BYTES
    if any_in_shards(files):
        return write_folder_together(target, write, lambda folder: write_shards(folder, files), needed)
    return write_folder(target, write, needed_bytes=needed) if is_first() else target


def _load_trained(model: nn.Module, path: Path) -> None:
    read_into(path, _WEIGHTS, dict(trained_parameters(model)))


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().contiguous() for name, parameter in trained_parameters(model).items()}


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
            place = own_part(value).data_ptr()
            shared = place in places  # a table that matrices have in common is written for each of them
            places.add(place)
            tensors[f"{index}.{name}"] = value.clone() if shared else value.contiguous()
    return tensors, plain


def _flat(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if isinstance(value, dict):  # bitsandbytes gathers what is quantised under a name of its own
            yield from _flat(value)
        else:
            yield name, value
