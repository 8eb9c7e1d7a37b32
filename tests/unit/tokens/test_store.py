"""The store of tokenized pairs: what comes out is what went in, once, and never what something else put in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny import tiny_tokenizer

from penchant.config import DataConfig
from penchant.tokens.chat import ChatFormat, chat_format, tokenize_pair
from penchant.tokens.store import Mapped, TokenStore, open_store, store_key
from penchant.types import PreferencePair, TokenizedPair, Turn

ASK = (Turn("user", "the sun"),)
LEAD = (Turn("assistant", "it is far"), Turn("user", "how far?"))
PAIRS = [
    PreferencePair("a", ASK, "is warm", "is cold", "file", 1, cluster="sun"),
    PreferencePair("b", ASK, "x" * 300, "y" * 300, "file", 2),
    PreferencePair("c", ASK, "very", "not very", "file", 3, chosen_lead=LEAD, rejected_lead=LEAD[:1] + ASK),
    PreferencePair("d", ASK, "no", "yes", "file", 4, rejected_complete=False),
    PreferencePair("e", ASK, "<|im_end|>", "yes", "file", 5),
    PreferencePair("f", ASK, "to imitate", "", "file", 6),
]
CONFIG = DataConfig(max_tokens=160)  # type: ignore[call-arg]


@pytest.fixture
def chat() -> ChatFormat:
    return chat_format(tiny_tokenizer())


def test_pairs_and_fates_come_back(tmp_path: Path, chat: ChatFormat) -> None:
    told: list[int] = []
    store = open_store(tmp_path, PAIRS, chat, CONFIG, on_pairs=told.append)
    assert sum(told) == len(PAIRS)
    direct = [tokenize_pair(pair, chat, CONFIG) for pair in PAIRS]
    assert list(store) == [tokenized for tokenized, _ in direct if tokenized is not None]
    assert [pair.id for pair in store] == ["a", "b", "c", "d", "f"]
    assert (store[4].rejected_ids, store[4].rejected_scored) == ((), None)
    assert list(store.entries(PAIRS)) == [entry for _, entry in direct if entry.fate != "kept"]
    assert {entry.fate for entry in store.entries(PAIRS)} == {"cut", "dropped"}
    assert store[-2] == store[3] == store[2:][1]
    with pytest.raises(IndexError):
        store[5]


def test_masks_of_several_turns_come_back(tmp_path: Path, chat: ChatFormat) -> None:
    """`last` leaves a lead's own turns out; `all_assistant` scores its assistant's."""
    config = replaced(loss_turns="all_assistant")
    last, every = open_store(tmp_path, PAIRS, chat, CONFIG)[2], open_store(tmp_path, PAIRS, chat, config)[2]
    assert last.chosen_scored is not None
    assert every.chosen_scored is not None
    assert 0 < sum(last.chosen_scored) < sum(every.chosen_scored) < len(every.chosen_ids)


def replaced(**values: Any) -> DataConfig:
    return DataConfig.model_validate(CONFIG.model_dump() | values)


def test_what_is_there_is_not_tokenized_again(tmp_path: Path, chat: ChatFormat) -> None:
    first = list(open_store(tmp_path, PAIRS, chat, CONFIG))
    told: list[int] = []
    assert list(open_store(tmp_path, PAIRS, chat, CONFIG, on_pairs=told.append)) == first
    assert told == []
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", [{"max_tokens": 100}, {"truncation": "drop"}, {"loss_turns": "all_assistant"}])
def test_another_setting_is_another_store(chat: ChatFormat, change: dict[str, Any]) -> None:
    assert store_key(PAIRS, chat, CONFIG) != store_key(PAIRS, chat, replaced(**change))


def test_random_labels_are_no_matter_of_tokens(chat: ChatFormat) -> None:
    assert store_key(PAIRS, chat, CONFIG) == store_key(PAIRS, chat, replaced(random_labels=True))


def test_another_text_order_or_tokenizer_is_another_store(chat: ChatFormat) -> None:
    key = store_key(PAIRS, chat, CONFIG)
    assert key != store_key([replace(PAIRS[0], chosen="is hot"), *PAIRS[1:]], chat, CONFIG)
    assert key != store_key([replace(PAIRS[0], chosen_complete=False), *PAIRS[1:]], chat, CONFIG)
    assert key != store_key(PAIRS[::-1], chat, CONFIG)
    other = tiny_tokenizer()
    other.chat_template = f"{other.chat_template} "
    assert key != store_key(PAIRS, chat_format(other), CONFIG)
    other = tiny_tokenizer()
    other.add_tokens(["sun"])
    assert key != store_key(PAIRS, chat_format(other), CONFIG)


def test_a_file_of_another_name_is_the_same_store(chat: ChatFormat) -> None:
    """The places of rows are told anew from the pairs at hand."""
    moved = [replace(pair, source="elsewhere", line=pair.line + 7) for pair in PAIRS]
    assert store_key(PAIRS, chat, CONFIG) == store_key(moved, chat, CONFIG)


@pytest.mark.parametrize("part", ["ids.npy", "lengths.npy", "scored.npy", "flags.npy", "facts.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_a_torn_store_is_made_anew(tmp_path: Path, chat: ChatFormat, part: str, damage: str) -> None:
    whole = list(open_store(tmp_path, PAIRS, chat, CONFIG))
    [folder] = tmp_path.iterdir()
    file = folder / part
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: -9 if damage == "short" else 0])
    assert list(open_store(tmp_path, PAIRS, chat, CONFIG)) == whole
    assert [item.name for item in tmp_path.iterdir()] == [folder.name]


def test_a_store_holds_no_objects(tmp_path: Path, chat: ChatFormat) -> None:
    """Arrays of numbers only: nothing in it can run code."""
    open_store(tmp_path, PAIRS, chat, CONFIG)
    [folder] = tmp_path.iterdir()
    for file in folder.glob("*.npy"):
        assert np.load(file, allow_pickle=False).dtype.kind in "ibf"


def test_no_pair_left_is_an_empty_store(tmp_path: Path, chat: ChatFormat) -> None:
    store = open_store(tmp_path, PAIRS[4:5], chat, CONFIG)
    assert list(store) == []
    assert [entry.fate for entry in store.entries(PAIRS[4:5])] == ["dropped"]


def test_mapped_makes_what_is_asked_for() -> None:
    made: list[int] = []

    def double(number: int) -> int:
        made.append(number)
        return 2 * number

    mapped = Mapped(double, [1, 2, 3, 4])
    assert (len(mapped), mapped[1], list(mapped[2:])) == (4, 4, [6, 8])
    assert made == [2, 3, 4]


def test_a_store_is_a_sequence_of_pairs(tmp_path: Path, chat: ChatFormat) -> None:
    store = open_store(tmp_path, PAIRS, chat, CONFIG)
    assert isinstance(store, TokenStore)
    assert all(isinstance(pair, TokenizedPair) for pair in store)
