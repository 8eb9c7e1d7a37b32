"""Token log-probabilities on disk: append-only files, each whole and proven by its SHA-256, or not used at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from penchant.objective.content_address import KEY_BYTES
from penchant.objective.logps import beyond_shorter

_SUFFIX = ".safetensors"
_TYPES = {"keys": torch.uint8, "lengths": torch.int32, "token_logps": torch.float32}


@dataclass(frozen=True)
class Shard:
    """The token log-probabilities of some pairs.

    Attributes:
        keys: What the pairs are found by, uint8, shape (pairs, 32).
        lengths: Scored tokens of each chosen and rejected response, int32, shape (pairs, 2).
        token_logps: Nats, fp32, pair after pair, chosen before rejected, shape (lengths.sum(),).
    """

    keys: Tensor
    lengths: Tensor
    token_logps: Tensor

    def sums(self, ld_alpha: float | None = None) -> Tensor:
        """Return the sum of each response, nats, fp32, shape (pairs, 2).

        Term by term in float64, as `penchant.objective.logps.pair_logps` sums the policy's, so that equal terms
        give equal sums to the last bit.

        Args:
            ld_alpha: Weight of the tokens beyond the shorter response, see `beyond_shorter`; None = 1.
        """
        counts = self.lengths.flatten().long()
        terms = self.token_logps
        if ld_alpha is not None:
            terms = terms * beyond_shorter(self.lengths.long(), ld_alpha).to(terms)
        response = torch.repeat_interleave(torch.arange(len(counts)), counts)
        sums = torch.zeros(len(counts), dtype=torch.float64).index_add(0, response, terms.double())
        return sums.float().reshape(-1, 2)


class ShardFolder:
    """The shards of one store.

    Args:
        folder: Where they lie; made when the first is written.
        note: Hears one line about each shard that is not used, and when there is no room.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self.folder = folder
        self.note = note
        self.writable = True
        self._read: list[Path] = []

    def read(self) -> Iterator[Shard]:
        """Yield the whole shards, oldest first; say which are not whole, and remove those."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            try:
                shard = read_shard(path, self.folder.name)
            except FileNotFoundError:  # another process found it torn, too
                continue
            except OSError as error:
                self.note(f"Reference store: {path.name} cannot be read ({error}); its pairs are scored again.")
            except ValueError as error:
                self.note(f"Reference store: {path.name} is not used ({error}); its pairs are scored again.")
                _remove(path)
            else:
                self._read.append(path)
                yield shard

    def append(self, shard: Shard) -> None:
        """Write a shard under a name of its own. Without room this is said once, and nothing more is written."""
        if not self.writable:
            return
        try:
            write_shard(self.folder, shard)
        except (OSError, SafetensorError) as error:
            self.writable = False
            why = getattr(error, "strerror", None) or error
            self.note(f"Reference store: cannot write to {self.folder} ({why}); this run goes on without it.")

    def discard(self) -> None:
        """Remove every shard that was read, so that nobody reads it again."""
        for path in self._read:
            _remove(path)
        self._read.clear()


def write_shard(folder: Path, shard: Shard) -> Path:
    """Write a shard to a new file of a store, whole or not at all, and return the file.

    Raises:
        OSError: There is no room or no permission; nothing is left behind.
    """
    tensors = {name: getattr(shard, name).contiguous() for name in _TYPES}
    data = save(tensors, {"store": folder.name, "sha256": _digest(folder.name, tensors)})
    # the time first: where two shards hold one pair, all readers take the older
    name = f"{time.time_ns():020d}-{secrets.token_hex(8)}{_SUFFIX}"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.unfinished"
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / name)
    except BaseException:
        _remove(unfinished)
        raise
    return folder / name


def read_shard(path: Path, store: str) -> Shard:
    """Return a shard, its SHA-256 verified.

    Raises:
        OSError: It cannot be read.
        ValueError: It is torn, changed, or another store's.
    """
    if path.stat().st_size == 0:
        raise ValueError("it is empty")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"it is torn: {error}") from error
    if {name: tensor.dtype for name, tensor in tensors.items()} != _TYPES:
        raise ValueError("it holds something else")
    if about.get("store") != store:
        raise ValueError("it belongs to another store")
    if about.get("sha256") != _digest(store, tensors):
        raise ValueError("its SHA-256 is wrong")
    shard = Shard(**tensors)
    pairs = len(shard.keys)
    if shard.keys.shape != (pairs, KEY_BYTES) or shard.lengths.shape != (pairs, 2):
        raise ValueError("its parts do not fit together")
    if shard.token_logps.shape != (int(shard.lengths.sum()),):
        raise ValueError("its parts do not fit together")
    return shard


def _digest(store: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(store.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
