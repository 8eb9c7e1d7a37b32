from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from penchant.data.source import load_pairs
from penchant.errors import DataError, UsageError

Write = Callable[..., Path]

SHARED = Path(os.environ.get("PENCHANT_SHARED_DATA") or Path(__file__).parents[4] / "shared" / "data")


def row(prompt: str, chosen: str = "yes", rejected: str = "no", **more: object) -> dict[str, object]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | more


def test_pairs_come_in_order_with_the_fate_of_every_row(write_lines: Write) -> None:
    pairs, ledger = load_pairs(write_lines(row("A"), row("B", chosen=""), row("C", id="c")))
    assert [pair.id for pair in pairs] == ["pairs-1", "c"]
    assert [(entry.line, entry.id, entry.fate, entry.reason) for entry in ledger] == [
        (1, "pairs-1", "kept", ""),
        (2, "pairs-2", "dropped", "empty_response"),
        (3, "c", "kept", ""),
    ]


def test_an_exact_repetition_is_dropped_with_the_line_it_repeats(write_lines: Write) -> None:
    rows = (row("A"), row("A", "no", "yes"), row("A"), row("A", "yes "), row("A"))
    pairs, ledger = load_pairs(write_lines(*rows))
    assert [pair.line for pair in pairs] == [1, 2, 4]
    repeated = [(entry.line, entry.reason, entry.evidence) for entry in ledger if entry.fate == "dropped"]
    assert repeated == [(3, "duplicate_pair", "same as line 1"), (5, "duplicate_pair", "same as line 1")]


@pytest.mark.parametrize("second", [row("B", id="x"), row("B", chosen="", id="x")])
def test_an_id_that_comes_again_is_an_error(write_lines: Write, second: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: the id of line 1 comes again"):
        load_pairs(write_lines(row("A", id="x"), second))


def test_a_given_id_can_not_take_the_place_of_a_made_one(write_lines: Write) -> None:
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: the id of line 1 comes again"):
        load_pairs(write_lines(row("A", id="pairs-2"), row("B")))


def test_a_limit_reads_the_first_rows_only(write_lines: Write) -> None:
    file = write_lines(row("A", chosen=""), row("B"), row("C"), {"not": "a pair"})
    pairs, ledger = load_pairs(file, limit=2)
    assert [pair.line for pair in pairs] == [2]
    assert [entry.line for entry in ledger] == [1, 2]


def test_a_split_is_passed_on(write_lines: Write, tmp_path: Path) -> None:
    write_lines(row("A"), name="train.jsonl")
    test = write_lines(row("B"), name="test.jsonl")
    pairs, _ = load_pairs(tmp_path, split="test")
    assert pairs[0].source == test.as_posix()
    assert pairs[0].id == "test-1"
    with pytest.raises(UsageError):
        load_pairs(test, split="test")


def test_nothing_kept_is_an_error_with_the_counts(write_lines: Write) -> None:
    file = write_lines(row("A", chosen=""), row("B", rejected=""), row("C", "no"))
    with pytest.raises(DataError, match=r"none of the 3 rows .* empty_response 2, identical_responses 1"):
        load_pairs(file)


def dropped_lines(path: Path) -> dict[str, list[int]]:
    _, ledger = load_pairs(path)
    found: dict[str, list[int]] = {}
    for entry in ledger:
        if entry.fate == "dropped":
            found.setdefault(entry.reason, []).append(entry.line)
    return found


@pytest.mark.skipif(not (SHARED / "hh_rlhf").is_dir(), reason="needs the real rows of hh_rlhf")
def test_the_known_defects_of_real_transcripts_are_found() -> None:
    assert dropped_lines(SHARED / "hh_rlhf") == {"empty_response": [87, 517, 926], "role_order": [668, 764]}


@pytest.mark.skipif(not (SHARED / "ultrafeedback_trl").is_dir(), reason="needs the real rows of ultrafeedback")
def test_the_known_defects_of_real_prompted_pairs_are_found() -> None:
    assert dropped_lines(SHARED / "ultrafeedback_trl") == {
        "empty_response": [479, 834],
        "identical_responses": [307, 656, 911, 998],
    }
