"""Models in memory on their way into Penchant: looked at as they are, or written down as where a run starts."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from penchant.config import STATE_DICT_SUFFIXES, Config
from penchant.data.atomic import write_json
from penchant.errors import ModelError, UsageError
from penchant.models.digest import weights_digest
from penchant.models.load import LoadedModel, loaded_in_memory
from penchant.models.save import save_model

AnyModel = str | Path | PreTrainedModel
"""A directory, Hub id or any other name of a model; or a loaded model."""

_SEEN = "penchant.json"


def is_named(model: AnyModel, tokenizer: Any) -> bool:
    """Return whether a model is named rather than given.

    Raises:
        UsageError: It is neither; or it is given without its tokenizer, or named with one.
    """
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise UsageError("a model that is named has its own tokenizer", fix="Leave out tokenizer.")
        return True
    if not isinstance(model, PreTrainedModel):
        raise UsageError(
            f"model is a {type(model).__name__}, not a name or a transformers model",
            fix="Of a model with peft's adapters give what merge_and_unload() returns.",
        )
    if tokenizer is None:
        raise UsageError("a model in memory needs its tokenizer", fix="Give tokenizer=...")
    return False


def borrowed(model: PreTrainedModel, tokenizer: Any) -> LoadedModel:
    """Return a model in memory, ready to be looked at where it is, in fp32. The caller's object stays as it is.

    The weights are shared with the caller's where they are fp32 already, and copied otherwise.

    Raises:
        ModelError: It is of a kind that Penchant cannot align.
    """
    tensors = [*model.parameters(), *model.buffers()]
    single = all(tensor.dtype == torch.float32 for tensor in tensors if tensor.is_floating_point())
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors} if single else {}
    twin: Any = copy.deepcopy(model, memo)
    if not single:
        twin.to(torch.float32)
    return loaded_in_memory(twin.eval(), copy.deepcopy(tokenizer), _name_of(model))


def write_start(model: PreTrainedModel, tokenizer: Any, folder: Path, *, resume: bool = False) -> None:
    """Write a model in memory as the start of a run.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: Where to.
        resume: Whether the run goes on: the model that lies there must then be the same.

    Raises:
        ModelError: It is of a kind that Penchant cannot align, or another model lies there.
        DiskError: There is no room or no permission.
    """
    digest = weights_digest(model)
    seen = folder / _SEEN
    if resume and seen.is_file():
        if json.loads(seen.read_text(encoding="utf-8")).get("weights") != digest:
            raise ModelError("this run started from another model than the one that is given", where=str(folder))
        return
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that did not get as far as a run
    loaded = loaded_in_memory(model, tokenizer, _name_of(model))
    name = getattr(model, "name_or_path", "") or "a model in memory"
    save_model(loaded, folder, card=f"# Where a run of Penchant started\n\nWritten from memory: `{name}`.\n")
    write_json(seen, {"weights": digest})


@contextlib.contextmanager
def as_named(model: AnyModel, tokenizer: Any, role: str) -> Iterator[str]:
    """Give a name to a model for a while: its own, or that of a folder which is removed afterwards."""
    if is_named(model, tokenizer):
        yield str(model)
        return
    assert isinstance(model, PreTrainedModel)  # is_named says so
    with tempfile.TemporaryDirectory(prefix="penchant-model-") as folder:
        write_start(model, tokenizer, Path(folder) / role)
        yield str(Path(folder) / role)


def starting_at(config: Config, path: str) -> Config:
    """Return a configuration with another start."""
    used = config.model.architecture if Path(path).suffix in STATE_DICT_SUFFIXES else None
    part = config.model.model_copy(update={"path": path, "architecture": used})
    return config.model_copy(update={"model": part})


def _name_of(model: PreTrainedModel) -> str:
    return getattr(model, "name_or_path", "") or type(model).__name__
