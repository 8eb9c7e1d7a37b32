"""Outputs of frozen layers on disk, found by pair, within a budget that all stores share.

A store is a folder with a file from each run that added to it. A file is a row of entries, each behind a header of
64 bytes that says whose it is, its size and its CRC-32, so there is no index that could disagree with it: what a
kill left half-written at the end is not counted as an entry, and a byte that changed is noticed when it is read.
CRC-32 because these are guarded against accidents, not against a forger, and it is twice as fast as SHA-256.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_SUFFIX = ".trunk"
_MAGIC = b"pnchtrk1"
_HEADER = struct.Struct("<8s32sII8sII")  # magic, key, rows, width, type, CRC of all but itself, CRC of the header
_TYPES = {b"f32": torch.float32, b"bf16": torch.bfloat16, b"f16": torch.float16, b"f64": torch.float64}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_FREE_SHARE = 2  # of the free disk a store takes at most one half: checkpoints need room too


@dataclass(frozen=True)
class _Entry:
    file: Path
    offset: int  # of the payload
    rows: int
    width: int
    dtype: torch.dtype
    crc: int  # of the payload, going on from that of the header's facts
    start_crc: int

    @property
    def nbytes(self) -> int:
        return self.rows * self.width * self.dtype.itemsize


class TrunkStore:
    """Outputs of the frozen layers of one model, by pair, on disk. One thread uses it at a time.

    Args:
        root: Where all stores lie; the budget is theirs together.
        name: Of this store, see `penchant.objective.content_address`.
        keys: The key of every pair that may be asked for, by index; other entries are not even listed.
        max_bytes: The budget of all stores together. When it is used up, files that were not used for longest go
            first; a file that holds one of the keys stays, and what finds no room is not kept.
        note: Hears one line about whatever could not be used or kept.
    """

    def __init__(
        self, root: Path, name: str, *, keys: Mapping[int, bytes], max_bytes: int, note: Callable[[str], None]
    ) -> None:
        self.root = root
        self.folder = root / name
        self.max_bytes = max_bytes
        self._keys = keys
        self._note = note
        self._open: dict[Path, io.FileIO] = {}
        self._writer: Path | None = None
        self._writable = max_bytes > 0
        self._budget: int | None = None
        self._damage_noted = False
        self._entries: dict[bytes, _Entry] = {}
        wanted = set(keys.values())
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(OSError):  # removed by another run, or not ours to read
                self._list(path, wanted)

    def __contains__(self, index: int) -> bool:
        return self._keys[index] in self._entries

    def __len__(self) -> int:
        return sum(key in self._entries for key in self._keys.values())

    def read(self, index: int) -> Tensor | None:
        """Return the output of a pair, shape (tokens, width), or None when it is not there or not whole.

        It is read into memory of its own. A memory map is no faster (1,000 outputs, 495 MB: 0.24 s either way) and
        its pages count as this process's: 490 MB more at the peak against 16, and still 50 with MADV_DONTNEED.
        """
        entry = self._entries.get(self._keys[index])
        if entry is None:
            return None
        output = torch.empty(entry.rows, entry.width, dtype=entry.dtype)
        buffer = _bytes_of(output)
        try:
            whole = _read_whole(self._open[entry.file], entry.offset, buffer)
        except OSError:
            whole = False
        if whole and zlib.crc32(buffer, entry.start_crc) == entry.crc:
            return output
        del self._entries[self._keys[index]]
        self._note_damage(f"an entry of {entry.file.name} is not what was written; it is computed again")
        return None

    def write(self, index: int, output: Tensor) -> bool:
        """Add the output of a pair, shape (tokens, width); return whether it is there now."""
        if index in self:
            return True
        if not self._writable or output.dtype not in _NAMES:
            return False
        rows, width = output.shape
        payload = _bytes_of(output.detach().cpu().contiguous())
        facts = _MAGIC + self._keys[index] + struct.pack("<II8s", rows, width, _NAMES[output.dtype])
        start = zlib.crc32(facts)
        crc = zlib.crc32(payload, start)
        head = facts + struct.pack("<I", crc)
        head += struct.pack("<I", zlib.crc32(head))
        try:
            if not self._make_room(len(head) + len(payload)):
                self._writable = False  # nobody will make room while this run goes on
                return False
            path, end = self._append(head, payload)
        except OSError as error:
            self._writable = False
            self._note(f"Trunk cache: cannot write to {self.folder} ({error.strerror}); this run goes on without.")
            return False
        self._entries[self._keys[index]] = _Entry(path, end + len(head), rows, width, output.dtype, crc, start)
        return True

    def close(self) -> None:
        """Close the files. Nothing has to be written: every entry is whole as it stands."""
        for file in self._open.values():
            file.close()
        self._open.clear()
        self._entries.clear()
        self._writable = False

    def _list(self, path: Path, wanted: set[bytes]) -> None:
        """List the entries of a file that are wanted; the file stays open when there are any."""
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb", buffering=0))
            entries = {key: entry for key, entry in self._whole_entries(path, file) if key in wanted}
            if entries:
                self._entries |= entries
                self._open[path] = file
                stack.pop_all()
                os.utime(path)  # used now

    def _whole_entries(self, path: Path, file: io.FileIO) -> Iterator[tuple[bytes, _Entry]]:
        size, place = os.fstat(file.fileno()).st_size, 0
        while place + _HEADER.size <= size:
            file.seek(place)
            head = file.read(_HEADER.size)
            magic, key, rows, width, kind, crc, head_crc = _HEADER.unpack(head)
            kind = kind.rstrip(b"\0")
            if magic != _MAGIC or zlib.crc32(head[:-4]) != head_crc or kind not in _TYPES:
                self._note_damage(f"{path.name} is not what was written from byte {place} on")
                return
            entry = _Entry(path, place + len(head), rows, width, _TYPES[kind], crc, zlib.crc32(head[:-8]))
            place = entry.offset + entry.nbytes
            if place > size:
                return  # half-written when a run was killed, or being written right now
            yield key, entry

    def _note_damage(self, what: str) -> None:
        """Say it once: where one byte is wrong there may be thousands."""
        if not self._damage_noted:
            self._note(f"Trunk cache: {what}; damaged outputs are never used.")
        self._damage_noted = True

    def _append(self, head: bytes, payload: memoryview) -> tuple[Path, int]:
        """Add an entry to this run's own file; return the file and where the entry begins."""
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{time.time_ns():020d}-{secrets.token_hex(8)}{_SUFFIX}"
            self._open[path] = path.open("x+b", buffering=0)
            self._writer = path
        file = self._open[self._writer]
        end = file.seek(0, os.SEEK_END)
        try:
            for part in (memoryview(head), payload):
                done = 0
                while done < len(part):
                    done += file.write(part[done:])
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise
        return self._writer, end

    def _make_room(self, needed: int) -> bool:
        """Return whether so many bytes fit now, after files of other runs were removed if need be."""
        files = _stats(self.root)
        held = sum(facts.st_size for facts in files.values())
        if self._budget is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self._budget = min(self.max_bytes, held + shutil.disk_usage(self.root).free // _FREE_SHARE)
        idle = sorted((path for path in files if path not in self._open), key=lambda path: files[path].st_mtime_ns)
        idle_bytes = sum(files[path].st_size for path in idle)
        if held - idle_bytes + needed > self._budget:
            return False  # not even then: so nothing is removed for it
        dropped = 0
        for path in idle:
            if held + needed <= self._budget:
                break
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # a store without files
            held -= files[path].st_size
            dropped += files[path].st_size
        if dropped:
            self._note(f"Trunk cache: {dropped / 1e6:.0f} MB not used for longest were removed to make room.")
        return True


def _stats(root: Path) -> dict[Path, os.stat_result]:
    found = {}
    for path in root.glob(f"*/*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another run made room
            found[path] = path.stat()
    return found


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _read_whole(file: io.FileIO, offset: int, buffer: memoryview) -> bool:
    file.seek(offset)
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            return False
        done += count
    return True
