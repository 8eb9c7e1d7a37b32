"""What a sweep trains on, chooses on and reports on: three sets that share no prompt, written once for all runs.

    SWEEP/data/train.jsonl  validation.jsonl  test.jsonl   pairs as `penchant prepare` writes them
               ledger.parquet                              what became of every row that was read for them

Where a prompt goes is a function of the prompt alone, so the same data is split the same way in every sweep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from penchant.data.atomic import disk_errors, write_text
from penchant.data.exclusions import leave_out
from penchant.data.files import split_names
from penchant.data.ledger import Ledger
from penchant.data.prepared import finished_or_absent, prepared_row
from penchant.data.splits import rank
from penchant.errors import DataError
from penchant.types import PreferencePair
from penchant.workflow.setup import describe_ledger, read_pairs
from penchant.workflow.sweep_grid import VALIDATION

SPLITS = ("train", VALIDATION, "test")
LEAST_CLUSTERS = 2  # an interval needs at least two
_RANGE = 1 << 64


def write_splits(
    data: Path,
    test: Path | None,
    out: Path,
    *,
    fraction: float,
    limit: int | None,
    exclude: str | None = None,
    note: Callable[[str], None],
) -> None:
    """Split pairs into what is trained on, chosen on and reported on, and write them to the folder `out`.

    Args:
        data: A file of pairs, or a folder with a `train` split.
        test: Pairs to report on, a file or a folder with a `test` split. None takes the `test` split of `data`, or
            where it has none holds back the share `fraction` of its prompts for it too.
        out: The folder to make; it is whole or not there.
        fraction: Expected share of the training prompts that are held back to choose on, in (0, 1).
        limit: Only the first rows of the training data.
        exclude: List of training rows that were left out by hand (`data.exclude`): they are in no set.
        note: Hears how many pairs went where, and of prompts that are in two sets.

    Raises:
        DataError: The pairs or the list cannot be read, or a set would have fewer than two prompts.
    """
    pairs, ledger = read_pairs(data, split="train", limit=limit)
    if exclude is not None:
        pairs = leave_out(pairs, ledger, Path(exclude), every=limit is None)
    note(describe_ledger(ledger))
    source = test or (data if data.is_dir() and "test" in split_names(data) else None)
    held_back = (VALIDATION,) if source else (VALIDATION, "test")
    sets = _split(pairs, held_back, fraction)
    if source:
        sets["test"], of_test = read_pairs(source, split="test")
        ledger = _joined(ledger, of_test)
        _note_shared(sets, note)
    for name, members in sets.items():
        if len({_cluster(pair) for pair in members}) < LEAST_CLUSTERS:
            raise DataError(
                f"{len(members)} pairs are left for {name}, and at least two prompts are needed",
                where=str(source if name == "test" and source else data),
                fix="Give more pairs, or another --validation-fraction.",
            )
    with finished_or_absent(out) as folder, disk_errors(out):
        for name, members in sets.items():
            lines = (json.dumps(prepared_row(pair), ensure_ascii=False) + "\n" for pair in members)
            write_text(folder / f"{name}.jsonl", "".join(lines))
        ledger.write(folder / "ledger.parquet")
    note(", ".join(f"{len(sets[name])} pairs for {name}" for name in SPLITS))


def splits_digest(folder: Path) -> str:
    """Return the SHA-256 of the sets in a folder, all bytes of all files.

    Raises:
        DataError: One cannot be read.
    """
    digest = hashlib.sha256()
    for name in SPLITS:
        path = folder / f"{name}.jsonl"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _split(
    pairs: Sequence[PreferencePair], held_back: Sequence[str], fraction: float
) -> dict[str, list[PreferencePair]]:
    """Each pair's set: the first of those held back whose draw its prompt wins, else `train`."""
    sets: dict[str, list[PreferencePair]] = {name: [] for name in ("train", *held_back)}
    for pair in pairs:
        # a draw of its own: that of `penchant prepare` has taken the lowest ranks of its own away already
        drawn = (name for name in held_back if rank(f"sweep {name}\n{_cluster(pair)}", 0) < fraction * _RANGE)
        sets[next(drawn, "train")].append(pair)
    return sets


def _cluster(pair: PreferencePair) -> str:
    return pair.cluster or pair.id


def _joined(one: Ledger, other: Ledger) -> Ledger:
    seen = {(entry.source, entry.line) for entry in one}
    return Ledger([*one, *(entry for entry in other if (entry.source, entry.line) not in seen)])


def _note_shared(sets: dict[str, list[PreferencePair]], note: Callable[[str], None]) -> None:
    known = {_cluster(pair) for name in SPLITS[:2] for pair in sets[name]}
    shared = sum(_cluster(pair) in known for pair in sets["test"])
    if shared:
        note(
            f"{shared} of the test pairs have a prompt that is trained or chosen on: their figures flatter the "
            "model."
        )
