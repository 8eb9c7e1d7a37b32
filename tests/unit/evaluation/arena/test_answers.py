"""The answers of an arena, from every file that holds some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_rows

from penchant.errors import DataError, UsageError
from penchant.evaluation.arena.answers import read_entries
from penchant.evaluation.arena.contest import Said


def test_rows_with_two_answers_and_rows_of_a_suite(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "a.jsonl", [{"id": "x", "question": "Why?", "policy": "So.", "reference": "Hm.", "extra": 1}]
    )
    [entry], names = read_entries([tmp_path / "a.jsonl"])
    assert (names, entry.id, entry.first, entry.second) == (
        ("policy", "reference"),
        "x",
        Said(("So.",)),
        Said(("Hm.",)),
    )
    answers = {
        "reference": {"text": ["A", "B"], "finished": [True, True]},
        "after SFT": {"text": ["C", "D"], "finished": [True, True]},
        "after DPO": {"text": ["E", "F"], "finished": [True, False]},
    }
    prompt = [{"role": "user", "content": "Why?"}]
    write_rows(tmp_path / "b.jsonl", [{"id": "y", "prompt": prompt, "later": ["Sure?"], "answers": answers}])
    [entry], names = read_entries([tmp_path / "b.jsonl"])
    assert names == ("after DPO", "reference")
    assert (entry.first, entry.second) == (Said(("E", "F"), False), Said(("A", "B")))
    assert entry.later == ("Sure?",)


def generated(key: str, response: str, sample: int = 0, turn: int = 1) -> dict[str, Any]:
    return {
        "id": key,
        "sample": sample,
        "turn": turn,
        "prompt": f"{key} {turn}?",
        "response": response,
        "finished": True,
    }


def test_two_files_of_generated_answers_are_joined_by_id(tmp_path: Path) -> None:
    ours = [generated("p", "1"), generated("p", "2", turn=2), generated("p", "x", sample=1), generated("q", "3")]
    theirs = [generated("q", "6"), generated("p", "4"), generated("p", "5", turn=2)]
    write_rows(tmp_path / "ours.jsonl", ours)
    write_rows(tmp_path / "theirs.jsonl", theirs)
    entries, names = read_entries([tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"])
    assert names == ("ours", "theirs")
    assert [(one.first.texts, one.second.texts, one.later) for one in entries] == [
        (("1", "2"), ("4", "5"), ("p 2?",)),
        (("3",), ("6",), ()),
    ]
    write_rows(tmp_path / "few.jsonl", theirs[:1])
    with pytest.raises(DataError, match="do not answer the same prompts: 2 and 1, 1 alike"):
        read_entries([tmp_path / "ours.jsonl", tmp_path / "few.jsonl"])
    with pytest.raises(UsageError, match="one file with two answers"):
        read_entries([tmp_path / "ours.jsonl"])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Why?", "answer": "So."}, "no two answers"),
        ({"prompt": "Why?", "first": "So.", "second": 1}, "neither a text nor"),
        ({"prompt": "Why?", "first": ["So.", "No."], "second": "Hm."}, "not one answer to each turn"),
        ({"prompt": "Why?", "answers": {"a": {"text": ["x"], "finished": [True]}}}, "not those of two models"),
    ],
)
def test_what_holds_no_two_answers_is_refused(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    write_rows(tmp_path / "a.jsonl", [row])
    with pytest.raises(DataError, match=why):
        read_entries([tmp_path / "a.jsonl"])


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"id": "x", "prompt": "Why?", "first": "So.", "second": "Hm."}] * 2)
    with pytest.raises(DataError, match="stands twice"):
        read_entries([tmp_path / "a.jsonl"])
