"""Pairs from judged answers, by hand and from a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import save_tiny, write_rows

from penchant.data.source import load_pairs
from penchant.errors import DataError, DiskError, Stopped
from penchant.evaluation.house_style import PASS, SYSTEM_PROMPT
from penchant.workflow import make_pairs as module
from penchant.workflow.make_pairs import Answer, Question, make_pairs, pairs_of, read_questions
from penchant.workflow.stopping import Stopper

QUESTION = Question("q-1", "Why do cats purr?")


def answer(verdict: str, count: int, *, finished: bool = True, word: str = "w") -> Answer:
    """An answer of so many words."""
    return Answer(" ".join(f"{word}{index}" for index in range(count)), finished, verdict)


def test_the_rejected_answer_is_the_failing_one_of_nearest_length() -> None:
    failing = [answer("too_long", 60, word="f"), answer("loop", 22, word="f"), answer("echo", 9, word="f")]
    [pair] = pairs_of(QUESTION, [*failing, answer(PASS, 20)])
    assert pair == {
        "id": "q-1-1",
        "cluster": "q-1",
        "prompt": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": "Why do cats purr?"},
        ],
        "chosen": answer(PASS, 20).text,
        "rejected": failing[1].text,
        "rejected_complete": True,
        "rejected_for": "loop",
    }


def test_no_answer_stands_in_two_pairs() -> None:
    answers = [answer(PASS, 20), answer(PASS, 21), answer("loop", 20, word="f"), answer("loop", 40, word="f")]
    pairs = pairs_of(QUESTION, answers)
    assert [pair["id"] for pair in pairs] == ["q-1-1", "q-1-2"]
    assert [pair["chosen"] for pair in pairs] == [answers[0].text, answers[1].text]
    assert [pair["rejected"] for pair in pairs] == [answers[2].text, answers[3].text]


def test_an_answer_that_was_given_twice_counts_once() -> None:
    answers = [answer(PASS, 20), answer(PASS, 20), answer("loop", 20, word="f"), answer("loop", 20, word="f")]
    assert len(pairs_of(QUESTION, answers)) == 1


def test_there_are_at_most_so_many_pairs() -> None:
    answers = [answer(PASS, 20 + index) for index in range(5)]
    answers += [answer("loop", 20 + index, word="f") for index in range(5)]
    assert len(pairs_of(QUESTION, answers)) == 2
    assert len(pairs_of(QUESTION, answers, limit=4)) == 4
    assert len(pairs_of(QUESTION, answers[:5] + answers[5:6], limit=4)) == 1


def test_an_empty_answer_is_never_rejected() -> None:
    """It would teach to say something, which is not the style."""
    assert pairs_of(QUESTION, [answer(PASS, 20), Answer("", True, "empty"), Answer("", False, "empty")]) == []


@pytest.mark.parametrize("verdict", [PASS, "loop"])
def test_answers_of_one_kind_make_no_pair(verdict: str) -> None:
    assert pairs_of(QUESTION, [answer(verdict, 20), answer(verdict, 21)]) == []
    assert pairs_of(QUESTION, []) == []


def test_a_rejected_answer_that_was_cut_off_says_so() -> None:
    [pair] = pairs_of(QUESTION, [answer(PASS, 20), answer("unfinished", 80, finished=False, word="f")])
    assert pair["rejected_complete"] is False
    assert pair["rejected_for"] == "unfinished"


def test_questions_without_an_id_are_called_by_file_and_line(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "mine.jsonl", [{"id": "a", "question": "Why?"}, {"question": "How?"}])
    assert read_questions(file) == [Question("a", "Why?"), Question("mine-2", "How?")]


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([{"id": "a", "question": "Why?"}, {"id": "b", "text": "How?"}], ":2"),
        ([{"id": "a", "question": "  "}], 'no text in column "question"'),
        ([{"id": "a", "question": 3}], 'no text in column "question"'),
        ([{"id": "a", "question": "Why?"}, {"id": "a", "question": "How?"}], "an id stands twice"),
    ],
)
def test_questions_that_cannot_be_asked(tmp_path: Path, rows: list[dict[str, Any]], word: str) -> None:
    with pytest.raises(DataError) as caught:
        read_questions(write_rows(tmp_path / "mine.jsonl", rows))
    assert word in str(caught.value)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "start")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"id": f"q-{index}", "question": f"Why do cats purr {index} times?"} for index in range(4)]
    return write_rows(tmp_path / "questions.jsonl", rows)


def by_length(question: str, text: str, *, finished: bool) -> str:
    """A judge that random bytes can please."""
    return "empty" if not text else PASS if len(text) % 2 else "too_long"


def test_a_tiny_model_makes_pairs_that_can_be_trained_on(
    tmp_path: Path, source: Path, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files load, every pair is of one question's samples, and the same seed gives the same bytes."""
    monkeypatch.setattr(module, "judge", by_length)
    made: dict[str, bytes] = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        out = tmp_path / "deep" / name
        count, asked = make_pairs(str(source), questions, out, samples=6, max_new_tokens=7, seed=seed)
        pairs, ledger = load_pairs(out / "pairs.jsonl")
        assert len(pairs) == count > 0
        assert ledger.counts()["kept"] == count
        assert len({pair.cluster for pair in pairs}) == asked
        samples = [json.loads(line) for line in (out / "samples.jsonl").read_text("utf-8").splitlines()]
        assert [row["id"] for row in samples] == ["q-0", "q-1", "q-2", "q-3"]
        assert all(len(row["answers"]) == 6 for row in samples)
        given = {row["id"]: {item["text"]: item for item in row["answers"]} for row in samples}
        for pair in pairs:
            assert given[pair.cluster][pair.chosen]["verdict"] == PASS
            rejected = given[pair.cluster][pair.rejected]
            assert rejected["verdict"] == "too_long"
            assert rejected["finished"] == pair.rejected_complete
        made[name] = (out / "pairs.jsonl").read_bytes() + (out / "samples.jsonl").read_bytes()
    assert made["one"] == made["same"]
    assert made["one"] != made["other"]


def test_a_stop_writes_nothing(tmp_path: Path, source: Path, questions: Path) -> None:
    stopper = Stopper()
    stopper.requested = True
    with pytest.raises(Stopped):
        make_pairs(str(source), questions, tmp_path / "out", samples=2, max_new_tokens=2, stopper=stopper)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_a_disk_error(tmp_path: Path, source: Path, questions: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(DiskError, match="out"):
        make_pairs(str(source), questions, tmp_path / "out", samples=2, max_new_tokens=2)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"
