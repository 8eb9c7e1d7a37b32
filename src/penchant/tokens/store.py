"""Tokenized pairs on disk, read through memory maps: tokenized once, and held as 4 bytes a token.

A store is a folder named by its content: what the pairs say, the tokenizer, the settings that decide how it is
used, and the source code of this package. So a store can be missing, but not stale.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from penchant.config import DataConfig
from penchant.data.atomic import disk_errors, flush_folder
from penchant.data.prepared import prepared_row
from penchant.tokens.chat import ChatFormat, tokenize_pair
from penchant.types import LedgerEntry, PreferencePair, TokenizedPair

_SIDES = ("prompt", "chosen", "rejected")
_FLAGS = ("chosen_masked", "rejected_masked", "chosen_complete", "rejected_complete", "labelled", "desirable")
_NUMBERS = ("weight", "margin", "confidence")  # nan where the data has none
_ARRAYS = ("ids", "scored", "lengths", "flags", "numbers")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Mapped(Sequence[Result]):
    """A sequence whose items are made when they are asked for, and not kept.

    Args:
        function: Makes an item.
        items: From what.
    """

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> None:
        self._function: Callable[[Any], Result] = function
        self._items: Sequence[Any] = items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | Sequence[Result]:
        if isinstance(index, slice):
            return Mapped(self._function, self._items[index])
        return self._function(self._items[index])


class TokenStore(Sequence[TokenizedPair]):
    """The pairs of a store, each made from its arrays when it is asked for.

    Args:
        folder: A finished store.
    """

    def __init__(self, folder: Path) -> None:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
        self._ids, self._scored = arrays["ids"], arrays["scored"]
        self._lengths, self._flags = np.asarray(arrays["lengths"]), np.asarray(arrays["flags"])
        self._numbers = np.asarray(arrays["numbers"])
        self._starts = np.concatenate([[0], np.cumsum(self._lengths.sum(axis=1))])
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self._names: list[tuple[str, str]] = [(name, cluster) for name, cluster in facts["names"]]
        self._fates: list[tuple[int, str, str, str]] = [tuple(fate) for fate in facts["fates"]]
        rows = {len(self._names), len(self._lengths), len(self._flags), len(self._numbers)}
        if len(rows) != 1 or self._starts[-1] != len(self._ids):
            raise ValueError("the parts of the store do not fit together")

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> TokenizedPair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenizedPair]: ...
    def __getitem__(self, index: int | slice) -> TokenizedPair | Sequence[TokenizedPair]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        ends = np.cumsum(self._lengths[place]) + self._starts[place]
        starts = [self._starts[place], *ends[:-1]]
        bounds = [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]
        prompt, chosen, rejected = (tuple(self._ids[part].tolist()) for part in bounds)
        *masked, chosen_complete, rejected_complete, labelled, desirable = self._flags[place].tolist()
        masks = [
            tuple(self._scored[part].tolist()) if has_mask else None
            for has_mask, part in zip(masked, bounds[1:], strict=True)
        ]
        name, cluster = self._names[place]
        return TokenizedPair(
            name,
            prompt,
            chosen,
            rejected,
            cluster,
            *masks,
            chosen_complete=chosen_complete,
            rejected_complete=rejected_complete,
            desirable=desirable if labelled else None,
            **{
                what: None if np.isnan(value) else float(value)
                for what, value in zip(_NUMBERS, self._numbers[place], strict=True)
            },
        )

    def entries(self, pairs: Sequence[PreferencePair]) -> Iterator[LedgerEntry]:
        """Yield what became of those of the pairs, given as they were tokenized, that were not kept whole."""
        for place, fate, reason, evidence in self._fates:
            pair = pairs[place]
            yield LedgerEntry(pair.source, pair.line, pair.id, fate, reason, evidence)  # type: ignore[arg-type]


def open_store(
    root: Path,
    pairs: Sequence[PreferencePair],
    chat: ChatFormat,
    config: DataConfig,
    *,
    on_pairs: Callable[[int], None] | None = None,
) -> TokenStore:
    """Return the store of some pairs, tokenizing them if it is not there yet.

    Args:
        root: Where stores are kept, each in a folder of its own.
        pairs: The pairs as text.
        chat: The model's chat format.
        config: How they become tokens.
        on_pairs: Told how many pairs were tokenized, batch by batch.

    Raises:
        DiskError: The store cannot be written.
    """
    folder = root / store_key(pairs, chat, config)
    try:
        return TokenStore(folder)
    except (EOFError, OSError, ValueError, KeyError, TypeError):
        pass  # not there, or torn: made anew
    with disk_errors(folder):
        root.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=root, prefix=".unfinished-"))
        try:
            _write(unfinished, pairs, chat, config, on_pairs)
            flush_folder(unfinished)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return TokenStore(folder)


def store_key(pairs: Iterable[PreferencePair], chat: ChatFormat, config: DataConfig) -> str:
    """Return the name of a store: all that its ids and masks depend on, as a SHA-256."""
    digest = hashlib.sha256()
    settings = config.model_dump(mode="json", exclude={"random_labels"})
    tokenizer = chat.tokenizer
    libraries = [version(name) for name in ("transformers", "tokenizers")]
    facts = [settings, tokenizer.chat_template, tokenizer.all_special_tokens, chat.end_id, libraries]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    digest.update((backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for pair in pairs:
        row = {name: value for name, value in prepared_row(pair).items() if name != "metadata"}
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _write(
    folder: Path,
    pairs: Sequence[PreferencePair],
    chat: ChatFormat,
    config: DataConfig,
    on_pairs: Callable[[int], None] | None,
) -> None:
    names: list[tuple[str, str]] = []
    fates: list[tuple[int, str, str, str]] = []
    lengths: list[tuple[int, ...]] = []
    flags: list[tuple[bool, ...]] = []
    numbers: list[list[float]] = []
    ids, scored = bytearray(), bytearray()
    for place, pair in enumerate(pairs):
        tokenized, entry = tokenize_pair(pair, chat, config)
        if entry.reason:
            fates.append((place, entry.fate, entry.reason, entry.evidence))
        if tokenized is not None:
            sides = (tokenized.prompt_ids, tokenized.chosen_ids, tokenized.rejected_ids)
            masks = (tokenized.chosen_scored, tokenized.rejected_scored)
            names.append((tokenized.id, tokenized.cluster))
            lengths.append(tuple(map(len, sides)))
            complete = (tokenized.chosen_complete, tokenized.rejected_complete)
            label = tokenized.desirable
            flags.append((*(m is not None for m in masks), *complete, label is not None, label is True))
            values = (getattr(tokenized, name) for name in _NUMBERS)
            numbers.append([np.nan if value is None else value for value in values])
            for side, mask in zip(sides, (None, *masks), strict=True):
                ids += np.asarray(side, dtype="<i4").tobytes()
                scored += bytes(mask) if mask is not None else b"\1" * len(side)
        if on_pairs:
            on_pairs(1)
    arrays = {
        "ids": np.frombuffer(ids, dtype="<i4"),
        "scored": np.frombuffer(scored, dtype=np.bool_),
        "lengths": np.array(lengths, dtype=np.int64).reshape(-1, len(_SIDES)),
        "flags": np.array(flags, dtype=np.bool_).reshape(-1, len(_FLAGS)),
        "numbers": np.array(numbers, dtype=np.float64).reshape(-1, len(_NUMBERS)),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    text = json.dumps({"names": names, "fates": fates}, ensure_ascii=False)
    (folder / "facts.json").write_text(text, encoding="utf-8")
