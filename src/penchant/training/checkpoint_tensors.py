"""The tensors of a checkpoint on disk: whole ones in a file a kind, and those in shards beside them.

    trained.safetensors ...     what every process has whole; written once
    shards/*.safetensors        of each process its shards, under `trained.NAME` and the like

torch.distributed.checkpoint writes and reads the shards, with its safetensors storage; its own format would leave
a pickled file. Each shard is stored with its place, so any number of processes takes what it needs from wherever
it lies, whole or in other shards.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from penchant.errors import ModelError
from penchant.failpoints import failpoint
from penchant.processes import world_size
from penchant.training.parallel import put

Files = Mapping[str, Mapping[str, Tensor]]

_SHARDS, _SUFFIX = "shards", ".safetensors"


def any_in_shards(files: Files) -> bool:
    """Return whether a tensor of any file is in shards, so that every process has a part of it to write."""
    return any(isinstance(tensor, DTensor) for tensors in files.values() for tensor in tensors.values())


def bytes_of(files: Files) -> int:
    """Return what all tensors take on disk, those in shards as a whole."""
    return sum(tensor.numel() * tensor.element_size() for tensors in files.values() for tensor in tensors.values())


def write_whole(folder: Path, files: Files) -> None:
    """Write the tensors that are not in shards, each file with those of its own. One process does this.

    Raises:
        OSError, SafetensorError: There is no room or no permission.
    """
    for name, tensors in files.items():
        whole = {key: tensor for key, tensor in tensors.items() if not isinstance(tensor, DTensor)}
        save_file(whole, folder / name)
        failpoint("checkpoint.file_written")


def write_shards(folder: Path, files: Files) -> None:
    """Write the tensors in shards. Every process does this, with the same names.

    Raises:
        OSError: There is no room or no permission.
    """
    (folder / _SHARDS).mkdir(exist_ok=True)
    tensors = {
        f"{name.removesuffix(_SUFFIX)}.{key}": tensor
        for name, tensors in files.items()
        for key, tensor in tensors.items()
        if isinstance(tensor, DTensor)
    }
    save(tensors, storage_writer=HuggingFaceStorageWriter(path=str(folder / _SHARDS), save_distributed=True))


def read_whole(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, without those in shards.

    Raises:
        ModelError: It is no safetensors file, whatever its sum says.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"it cannot be read ({error})", where=str(path), fix="Start the run anew.") from error


def names_in_shards(path: Path, name: str) -> list[str]:
    """Return which tensors of the file `name` of the checkpoint `path` were written in shards."""
    if not (path / _SHARDS).is_dir():
        return []
    known = HuggingFaceStorageReader(path=str(path / _SHARDS)).read_metadata().state_dict_metadata
    kind = name.removesuffix(_SUFFIX) + "."
    return sorted(key.removeprefix(kind) for key in known if key.startswith(kind))


@torch.no_grad()
def read_into(path: Path, name: str, into: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or in shards, with what the checkpoint has of them, whole or in shards.

    Args:
        path: The checkpoint.
        name: Of the file that they belong to.
        into: By name, of the shapes that were written.

    Raises:
        ModelError: The checkpoint does not have them.
    """
    whole, shards = read_whole(path / name), set(names_in_shards(path, name))
    if missing := sorted(into.keys() - whole.keys() - shards):
        raise ModelError(
            f"the checkpoint lacks {', '.join(missing[:3])}" + (" and more" if len(missing) > 3 else ""),
            where=str(path / name),
            fix="Resume with what the run was started with.",
        )
    for key in into.keys() & whole.keys():
        put(into[key], whole[key])
    wanted = {f"{name.removesuffix(_SUFFIX)}.{key}": into[key].detach() for key in into.keys() & shards}
    if wanted:
        with warnings.catch_warnings():  # to be alone is no mistake
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            reader = HuggingFaceStorageReader(path=str(path / _SHARDS))
            load(wanted, storage_reader=reader, no_dist=world_size() == 1)
