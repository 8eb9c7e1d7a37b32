"""A prepared data set: the folder that `penchant prepare` writes and everything else reads.

    train.jsonl  test.jsonl   one pair a line (see `prepared_row`); a split without pairs has no file
    ledger.parquet            what became of every input row
    card.json                 counts, lengths, licences, fingerprint: for programs
    README.md                 the same for people

The folder is built beside its place under another name and moved there whole, so it exists finished or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penchant.data.atomic import disk_errors, flush_folder
from penchant.errors import DiskError, UsageError
from penchant.types import PreferencePair, Turn

_OPTIONAL = ("weight", "margin", "confidence", "desirable", "score_chosen", "score_rejected")


def prepared_row(pair: PreferencePair) -> dict[str, Any]:
    """Return a pair as the line that stands for it; reading the line back gives the pair again.

    What a pair does not have is left out, so a plain pair is a plain row.
    """
    row: dict[str, Any] = {
        "id": pair.id,
        "prompt": _messages(pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "cluster": pair.cluster,
    }
    if pair.origin:
        row["source"] = pair.origin
    for name in ("chosen_lead", "rejected_lead"):
        if turns := getattr(pair, name):
            row[name] = _messages(turns)
    for name in ("chosen_complete", "rejected_complete"):
        if not getattr(pair, name):
            row[name] = False
    for name in _OPTIONAL:
        if (value := getattr(pair, name)) is not None:
            row[name] = value
    return row | {"metadata": {"input": pair.source, "line": pair.line}}


def _messages(turns: tuple[Turn, ...]) -> list[dict[str, Any]]:
    return [turn.as_message() for turn in turns]


@contextlib.contextmanager
def finished_or_absent(out: Path) -> Iterator[Path]:
    """Give a folder to write to that becomes `out` at the end of the body, or disappears if the body fails.

    Raises:
        UsageError: `out` exists and is not an empty folder.
        DiskError: There is no room or no permission.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError("exists already", where=str(out), fix="Choose another --out, or remove it.")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.unfinished-"))
    try:
        yield folder
        with disk_errors(out):
            flush_folder(folder)
            folder.chmod(0o755)
            if out.is_dir():
                out.rmdir()
            os.rename(folder, out)
    except OSError as error:
        raise DiskError(f"cannot write ({error.strerror or error})", where=str(out)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
