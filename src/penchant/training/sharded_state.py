"""Tensors in shards, on disk: every process writes its own, and any number of processes reads them again.

torch.distributed.checkpoint does both, with its safetensors storage; its own format would leave a pickled file.
Each file holds the shards of one process with their places, so a reader takes what it needs from wherever it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from penchant.processes import world_size


def save_sharded(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of which each process holds shards; every process calls this, with the same names.

    Args:
        folder: Made if need be; on a disk that all processes see.
        tensors: By name. A tensor that is not in shards is written once.

    Raises:
        OSError: There is no room or no permission.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = HuggingFaceStorageWriter(path=str(folder), save_distributed=True)
    save(dict(tensors), storage_writer=writer)


def names_in(folder: Path) -> list[str]:
    """Return the names of the tensors that `save_sharded` wrote."""
    return sorted(HuggingFaceStorageReader(path=str(folder)).read_metadata().state_dict_metadata)


def load_sharded(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors, in shards or whole, with what `save_sharded` wrote under their names.

    Args:
        folder: Where it lies.
        into: By name, of the shapes and types that were written; other names in the folder are passed over.
    """
    alone = world_size() == 1
    load(dict(into), storage_reader=HuggingFaceStorageReader(path=str(folder)), no_dist=alone)
