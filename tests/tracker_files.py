"""What trackers hold of a run, read back from their own files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD = 32768, 7  # of W&B's log: LevelDB's layout behind seven bytes of its own
_WHOLE, _FIRST, _MIDDLE, _LAST = range(1, 5)

Rows = list[tuple[int, dict[str, float]]]


def tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, as TensorBoard itself reads the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def trackio_rows(project: str, run_id: str) -> tuple[str, dict[str, Any], Rows]:
    """The name, the configuration and the rows of a run, through trackio's own interface and storage."""
    import trackio  # pyright: ignore[reportMissingImports]
    from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

    (run,) = [one for one in trackio.Api().runs(project) if one.id == run_id]
    logs = SQLiteStorage.get_logs(project, run.name, run_id=run_id)
    rows = [(log["step"], {key: value for key, value in log.items() if "/" in key}) for log in logs]
    return run.name, dict(run.config or {}), rows


def wandb_records(folder: Path) -> Iterator[Any]:
    """The records of an offline run of W&B."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]

    (file,) = folder.glob("*.wandb")
    for data in _chunks(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        yield record


def wandb_rows(folder: Path) -> tuple[Any, dict[str, Any], Rows]:
    """The description, the summary and the rows of an offline run of W&B."""
    told, summary, rows = None, {}, []
    for record in wandb_records(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            told = record.run
        elif kind == "summary":
            summary |= _items(record.summary.update)
        elif kind == "history":
            rows.append((record.history.step.num, _items(record.history.item)))
    return told, summary, rows


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _chunks(data: bytes) -> Iterator[bytes]:
    place, parts = _HEAD, b""
    while place + _HEAD <= len(data):
        if _BLOCK - place % _BLOCK < _HEAD:  # the end of a block holds no head of a record
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + _HEAD])
        parts += data[place + _HEAD : place + _HEAD + length]
        place += _HEAD + length
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""
