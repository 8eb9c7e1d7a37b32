"""A checkpoint is whole or not there, and a resume takes nothing that was changed."""

from __future__ import annotations

import json
import random
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_llama

from penchant.errors import DiskError, ModelError
from penchant.models.freeze import choose_trainable
from penchant.training.checkpoint import check_identity, find_checkpoint, load_checkpoint, save_checkpoint

IDENTITY: dict[str, Any] = {"config": {"train": {"seed": 0}}, "data": "abc"}
FILES = ("trained.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", "manifest.json")


def state(seed: int = 0, steps: int = 2) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model with its last layer trained for some steps."""
    model = tiny_llama(seed=seed)
    choose_trainable(model, 1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        model(torch.tensor([[5, 6, 7]])).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def saved(folder: Path, *steps: int) -> Path:
    model, optimizer = state()
    for step in steps:
        save_checkpoint(folder, step, model, optimizer, IDENTITY)
    return folder


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    """Trained weights and both moments bit for bit; the frozen weights are not touched."""
    model, optimizer = state(steps=3)
    path = save_checkpoint(tmp_path, 3, model, optimizer, IDENTITY)
    other, other_optimizer = state(seed=9, steps=0)
    frozen = {n: p.detach().clone() for n, p in other.named_parameters() if not p.requires_grad}
    assert load_checkpoint(path, other, other_optimizer) == 3
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, frozen.get(name, model.get_parameter(name))), name
    wanted, found = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert wanted.keys() == found.keys()
    for index, values in wanted.items():
        for name, value in values.items():
            assert torch.equal(found[index][name], value)
            assert found[index][name].dtype == value.dtype


def test_only_trained_weights_are_written(tmp_path: Path) -> None:
    """Three trained parts and their two moments, not the frozen rest."""
    model, optimizer = state()
    path = save_checkpoint(tmp_path, 1, model, optimizer, IDENTITY)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (path / "trained.safetensors").stat().st_size < 4 * trained + 4096
    assert sorted(item.name for item in path.iterdir()) == sorted(FILES)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    """By number, not by name: step 10 is newer than step 9."""
    saved(tmp_path, 8, 9, 10)
    assert {item.name for item in tmp_path.iterdir()} == {"step-9", "step-10"}
    assert find_checkpoint(tmp_path).path == tmp_path / "step-10"


def test_no_checkpoint_at_all_is_none(tmp_path: Path) -> None:
    """Neither an empty folder, nor a missing one, nor an unfinished hidden one is a checkpoint."""
    assert find_checkpoint(tmp_path / "missing").path is None
    (tmp_path / ".step-4.abc").mkdir()
    assert find_checkpoint(tmp_path).path is None


def damage(path: Path, kind: str, name: str) -> None:
    file = path / name
    data = bytearray(file.read_bytes())
    if kind == "torn":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "flipped":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        file.unlink()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["torn", "flipped", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_older(tmp_path: Path, kind: str, name: str) -> None:
    """One bit, half a file, or a file is gone: the whole one before it is taken."""
    saved(tmp_path, 4, 6)
    damage(tmp_path / "step-6", kind, name)
    assert find_checkpoint(tmp_path).path == tmp_path / "step-4"


def test_when_all_are_damaged_that_is_said(tmp_path: Path) -> None:
    """Starting silently from scratch would be a lost run."""
    saved(tmp_path, 4, 6)
    damage(tmp_path / "step-6", "torn", "optimizer.safetensors")
    damage(tmp_path / "step-4", "missing", "manifest.json")
    with pytest.raises(ModelError, match=r"every checkpoint is damaged \(step-6, step-4\)"):
        find_checkpoint(tmp_path)


def test_a_manifest_that_leaves_a_file_out_does_not_hold(tmp_path: Path) -> None:
    """An empty list of sums is not a sum of everything."""
    saved(tmp_path, 4, 6)
    manifest = tmp_path / "step-6" / "manifest.json"
    listed = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**listed, "files": {}}), encoding="utf-8")
    assert find_checkpoint(tmp_path).path == tmp_path / "step-4"


@pytest.mark.parametrize("changed", ["config", "data"])
def test_a_changed_identity_is_refused_by_name(tmp_path: Path, changed: str) -> None:
    saved(tmp_path, 4)
    with pytest.raises(ModelError, match=f"another {changed}"):
        check_identity(tmp_path / "step-4", {**IDENTITY, changed: "other"})
    assert check_identity(tmp_path / "step-4", IDENTITY) == []


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    """torch, Python and NumPy draw after a resume what they would have drawn."""

    def drawn() -> list[float]:
        return [*torch.rand(2).tolist(), random.random(), random.gauss(), np.random.rand(), np.random.randn()]

    model, optimizer = state()
    drawn()  # a half-used pair of normal numbers is part of the state
    path = save_checkpoint(tmp_path, 3, model, optimizer, IDENTITY)
    expected = drawn()
    assert drawn() != expected
    load_checkpoint(path, model, optimizer)
    assert drawn() == expected


def test_a_disk_with_too_little_room_is_found_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The need is that of weights and both moments; the older checkpoint stays, and no folder is begun."""
    saved(tmp_path, 4)
    model, optimizer = state()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 12 * trained))
    with pytest.raises(DiskError, match="are to be written"):
        save_checkpoint(tmp_path, 6, model, optimizer, IDENTITY)
    assert [item.name for item in tmp_path.iterdir()] == ["step-4"]


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    """A resume that repeats a step replaces its checkpoint as a whole."""
    saved(tmp_path, 4, 4)
    assert [item.name for item in tmp_path.iterdir()] == ["step-4"]
    assert find_checkpoint(tmp_path).path == tmp_path / "step-4"
    assert json.loads((tmp_path / "step-4" / "state.json").read_text(encoding="utf-8"))["step"] == 4
