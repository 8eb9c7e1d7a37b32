"""What training, evaluation and scoring share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiny import Notes, loaded, pair_rows, random_pairs, tiny_family, tiny_llama, tiny_tokenizer, write_rows

from penchant.config import DataConfig, EngineConfig
from penchant.errors import DataError, Stopped, UsageError
from penchant.models import activation_memory
from penchant.tokens import store
from penchant.tokens.chat import chat_format
from penchant.types import LedgerEntry, TokenizedPair
from penchant.workflow import setup
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import (
    circumstances,
    describe_ledger,
    describe_machine,
    fingerprint,
    read_pairs,
    scoring_model,
    set_threads,
    tokenize,
    with_random_labels,
)
from penchant.workflow.stopping import Stopper


def engine(**values: object) -> EngineConfig:
    return EngineConfig.model_validate({"device": "cpu", "precision": "fp32", "threads": 1, **values})


def test_a_fingerprint_knows_ids_tokens_and_order() -> None:
    pairs = random_pairs(6)
    assert fingerprint(pairs) == fingerprint(random_pairs(6))
    others = [
        pairs[::-1],
        pairs[:-1],
        [replace(pairs[0], id="x"), *pairs[1:]],
        [replace(pairs[0], chosen_ids=(*pairs[0].chosen_ids, 9)), *pairs[1:]],
        [pairs[0].swapped(), *pairs[1:]],
        [replace(pairs[0], chosen_scored=(False,) * len(pairs[0].chosen_ids)), *pairs[1:]],
        [replace(pairs[0], rejected_scored=(False,) * len(pairs[0].rejected_ids)), *pairs[1:]],
    ]
    assert len({fingerprint(pairs), *map(fingerprint, others)}) == 8


def test_random_labels_are_a_fair_coin_that_the_seed_decides() -> None:
    pairs = random_pairs(400)
    flipped = list(with_random_labels(pairs, seed=0))
    assert flipped == list(with_random_labels(pairs, seed=0))
    assert flipped != list(with_random_labels(pairs, seed=1))
    swapped = 0
    for before, after in zip(pairs, flipped, strict=True):
        assert (before.id, before.prompt_ids) == (after.id, after.prompt_ids)
        assert {before.chosen_ids, before.rejected_ids} == {after.chosen_ids, after.rejected_ids}
        swapped += before.chosen_ids != after.chosen_ids
    assert 150 < swapped < 250


def test_a_split_is_looked_for_in_folders_only(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", pair_rows(3))
    write_rows(tmp_path / "test.jsonl", pair_rows(5))
    assert len(read_pairs(tmp_path, split="train")[0]) == 3
    assert len(read_pairs(tmp_path, split="test")[0]) == 5
    assert len(read_pairs(tmp_path / "test.jsonl", split="train", limit=2)[0]) == 2


def test_the_ledger_in_one_line(tmp_path: Path) -> None:
    rows = [*pair_rows(3), {"prompt": "a", "chosen": "b", "rejected": "b"}]
    rows += [
        {"prompt": "a" * 90, "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b" * 90, "rejected": "c"},
    ]
    pairs, ledger = read_pairs(write_rows(tmp_path / "pairs.jsonl", rows), split=None)
    chat = loaded(tiny_llama(layers=1)).chat
    kept = tokenize(pairs, ledger, chat, DataConfig.model_validate({"max_tokens": 100}))
    assert len(kept) == 5
    line = describe_ledger(ledger)
    assert line.startswith("6 rows: 3 kept, 2 cut, 1 dropped (")
    assert all(f"{reason} 1" in line for reason in ("identical_responses", "prompt_cut", "response_cut"))


def test_no_pair_left_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    pairs, ledger = read_pairs(write_rows(tmp_path / "pairs.jsonl", pair_rows(3)), split=None)
    chat = loaded(tiny_llama(layers=1)).chat
    with pytest.raises(DataError, match="prompt_too_long 3"):
        tokenize(pairs, ledger, chat, DataConfig.model_validate({"max_tokens": 8}))


def test_threads_are_set_only_when_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    set_threads(engine(threads=None))
    set_threads(engine(threads=3))
    assert asked == [3]


def test_prompts_are_shared_where_they_can_be_and_a_model_that_cannot_says_why() -> None:
    model, notes = loaded(tiny_llama(layers=2)), Notes()
    shared = scoring_model(model, engine(), max_tokens=96, trunk_layers=1, reporter=notes)
    assert (shared.prefix_sharing, shared.trunk_layers, notes.lines) == (True, 1, [])
    off = scoring_model(model, engine(prefix_sharing=False), max_tokens=96, trunk_layers=1, reporter=notes)
    assert (off.prefix_sharing, off.trunk_layers, notes.lines) == (False, 0, [])
    slides = loaded(tiny_family("Mistral", layers=1, sliding_window=8))
    apart = scoring_model(slides, engine(), max_tokens=96, trunk_layers=1, reporter=notes)
    assert (apart.prefix_sharing, apart.trunk_layers) == (False, 0)
    [note] = notes.lines
    assert "its attention slides over 8 tokens" in note


def test_a_trunk_that_was_asked_for_is_not_dropped_in_silence() -> None:
    model = loaded(tiny_llama(layers=2))
    asked = engine(prefix_sharing=False, trunk_sharing=True)
    with pytest.raises(UsageError, match="trunk_sharing"):
        scoring_model(model, asked, max_tokens=96, trunk_layers=1, reporter=Reporter())


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own
def test_compilation_that_was_asked_for_is_not_dropped_in_silence() -> None:
    model = loaded(tiny_llama(layers=2))
    assert scoring_model(model, engine(compile=True), max_tokens=96, trunk_layers=1, reporter=Reporter()).compiled
    asked = engine(prefix_sharing=False, compile=True)
    with pytest.raises(UsageError, match=r"engine\.compile needs"):
        scoring_model(model, asked, max_tokens=96, trunk_layers=0, reporter=Reporter())


def test_layers_are_computed_twice_when_they_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only where something is trained, and only then is it said; a word of one's own is obeyed in silence."""
    model, notes = loaded(tiny_llama(layers=2)), Notes()

    def chosen(free: int | None, *, step_tokens: int | None = 2048, **values: object) -> bool:
        monkeypatch.setattr(activation_memory, "free_bytes", lambda _: free)
        return scoring_model(
            model, engine(**values), max_tokens=96, trunk_layers=0, reporter=notes, step_tokens=step_tokens
        ).checkpointing

    assert not chosen(10**9)
    assert not chosen(None)
    assert not chosen(10**6, step_tokens=None)
    assert not chosen(10**6, activation_checkpointing=False)
    assert chosen(10**9, activation_checkpointing=True)
    assert notes.lines == []
    assert chosen(10**6)
    [note] = notes.lines
    assert "computed again in the backward pass: a micro-batch of 2048 tokens would keep 0.0 GB" in note


def test_circumstances_are_plain_and_complete() -> None:
    found = circumstances(engine())
    assert set(found) == {"versions", "machine", "device", "precision", "threads", "processes", "git"}
    assert {"python", "penchant", "torch", "transformers"} <= set(found["versions"])
    assert all(isinstance(version, str) and version for version in found["versions"].values())
    assert (found["device"], found["precision"]) == ("cpu", "fp32")
    assert found["machine"] == describe_machine("cpu")


def test_many_pairs_are_tokenized_once_and_read_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pairs and fates either way; the second time nothing is tokenized."""
    rows = [*pair_rows(6), {"prompt": "a", "chosen": "<|im_end|>", "rejected": "b"}]
    write_rows(tmp_path / "pairs.jsonl", rows)
    chat = chat_format(tiny_tokenizer())
    config = DataConfig()  # type: ignore[call-arg]

    def tokenized() -> tuple[list[TokenizedPair], list[LedgerEntry]]:
        pairs, ledger = read_pairs(tmp_path / "pairs.jsonl", split=None)
        return list(tokenize(pairs, ledger, chat, config)), list(ledger)

    in_memory = tokenized()
    assert [entry.fate for entry in in_memory[1]].count("dropped") == 1
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(setup, "WORTH_STORING", 3)
    assert tokenized() == in_memory
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1
    monkeypatch.setattr(store, "tokenize_pair", None)
    assert tokenized() == in_memory


def test_a_stop_while_tokenizing_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "pairs.jsonl", pair_rows(6))
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(setup, "WORTH_STORING", 3)
    stopper = Stopper()
    stopper.requested = True
    pairs, ledger = read_pairs(tmp_path / "pairs.jsonl", split=None)
    with pytest.raises(Stopped):
        tokenize(pairs, ledger, chat_format(tiny_tokenizer()), DataConfig(), stopper=stopper)  # type: ignore[call-arg]
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []
