"""The packaged task: whole files, no test question among those trained on, and pairs as the judge sees them."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

import pytest

from penchant.data.house_style import house_style_file
from penchant.data.source import load_pairs
from penchant.evaluation.house_style import PASS, SYSTEM_PROMPT, judge
from penchant.workflow.demo import CONTROL_RECIPES, committed_controls
from penchant.workflow.make_pairs import read_questions

SPLITS = ("train", "validation", "test")
PAIRS = {"pairs": "train", "test_pairs": "test"}
PAIR_KEYS = {"id", "cluster", "prompt", "chosen", "rejected", "rejected_complete", "rejected_for"}
NEAR = 0.4

FUNCTION_WORDS = frozenset(
    "a about an and any are as at be been but by can could did do does for from had has have how i if in into is "
    "it its me my no not of on or our out over should so some than that the their them then there these they this "
    "those to up us was we were what when where which who why will with would you your".split()
)

# Beginnings of words that lead to advice for which a small model is no source.
STAYED_CLEAR_OF = (
    "medicine medicat prescri doctor hospital surger surgeon diagnos therap vaccin disease illness cancer diabet "
    "symptom dosage overdos painkill antibiotic suicid injur wound bleed fracture concussion burns "
    "lawsuit lawyer attorney legal illegal sue sued courtroom custody "
    "invest stocks mortgage loan debt tax insuran bankrupt crypto bitcoin pension"
).split()


@cache
def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in house_style_file(name).read_text(encoding="utf-8").splitlines()]


def question_texts(split: str) -> dict[str, str]:
    return {row["id"]: row["question"] for row in rows(f"{split}_questions")}


def content_words(question: str) -> frozenset[str]:
    """The words that a question is about, by their first five letters, so that "freeze" is "freezing"."""
    plain = re.findall(r"[a-z]+", re.sub(r"(?:n't|'(?:s|re|d|ve|ll|m))\b", "", question.lower()))
    return frozenset(word[:5] for word in plain if word not in FUNCTION_WORDS and len(word) > 2)


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared content words as a part of all of them."""
    return len(one & other) / max(1, len(one | other))


def test_likeness_sees_what_is_nearly_the_same() -> None:
    """The helper of the next test: what it must catch, and what it must let pass."""
    lake = content_words("Why doesn't a lake freeze from the bottom?")
    assert likeness(lake, content_words("Why is it that a lake's bottom isn't freezing?")) == 1
    assert likeness(lake, content_words("Why is the bottom of a lake not frozen?")) == 0.5 > NEAR
    assert likeness(lake, content_words("Why do cats purr?")) == 0


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_whole_and_stand_once(split: str) -> None:
    file = house_style_file(f"{split}_questions")
    questions = read_questions(file)
    assert file.read_text(encoding="utf-8").count("\n") == len(questions)
    assert [set(row) for row in rows(f"{split}_questions")] == [{"id", "question"}] * len(questions)
    assert all(question.id.startswith(f"{split}-") for question in questions)
    assert all(question.text == " ".join(question.text.split()) for question in questions)
    assert len({question.text.lower() for question in questions}) == len(questions)


def test_there_are_enough_test_questions() -> None:
    assert len(rows("test_questions")) >= 200


@pytest.mark.parametrize("split", ["test", "validation"])
def test_no_question_is_nearly_one_that_is_trained_on(split: str) -> None:
    held_out = {text: content_words(text) for text in question_texts(split).values()}
    trained = {text: content_words(text) for text in question_texts("train").values()}
    leaks = [
        (text, other)
        for text, asked in held_out.items()
        for other, known in trained.items()
        if text.lower() == other.lower() or likeness(asked, known) >= NEAR
    ]
    assert leaks == []


@pytest.mark.parametrize("split", SPLITS)
def test_no_question_asks_for_advice_on_health_law_or_money(split: str) -> None:
    pattern = re.compile(rf"\b(?:{'|'.join(STAYED_CLEAR_OF)})", re.IGNORECASE)
    assert [text for text in question_texts(split).values() if pattern.search(text)] == []


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_load_and_lose_no_row(name: str) -> None:
    pairs, ledger = load_pairs(house_style_file(name))
    assert len(pairs) == len(rows(name)) == ledger.counts()["kept"] > 100
    assert all(set(row) == PAIR_KEYS for row in rows(name))


def test_the_pairs_are_small_enough_for_a_package() -> None:
    assert house_style_file("pairs").stat().st_size < 1_000_000


@pytest.mark.parametrize(("name", "split"), PAIRS.items())
def test_pairs_are_of_the_questions_of_their_split(name: str, split: str) -> None:
    known = question_texts(split)
    for row in rows(name):
        assert row["cluster"] in known
        system, user = row["prompt"]
        assert system == {"role": "system", "content": SYSTEM_PROMPT}
        assert user == {"role": "user", "content": known[row["cluster"]]}


@pytest.mark.parametrize("name", PAIRS)
def test_chosen_passes_the_judge_and_rejected_fails_as_it_says(name: str) -> None:
    wrong = []
    for row in rows(name):
        question = row["prompt"][-1]["content"]
        chosen = judge(question, row["chosen"], finished=True)
        rejected = judge(question, row["rejected"], finished=row["rejected_complete"])
        if chosen != PASS or rejected in (PASS, "empty") or rejected != row["rejected_for"]:
            wrong.append((row["id"], chosen, rejected, row["rejected_for"]))
    assert wrong == []


@pytest.mark.parametrize("name", PAIRS)
def test_no_answer_stands_in_two_pairs_of_a_question(name: str) -> None:
    seen = [(row["cluster"], text) for row in rows(name) for text in (row["chosen"], row["rejected"])]
    assert len(seen) == len(set(seen))


def test_controls_came_with_their_circumstances() -> None:
    """An empty list is allowed when the date is empty: no controls have been measured yet."""
    text = files("penchant.data.house_style").joinpath("controls.json").read_text(encoding="utf-8")
    controls = committed_controls()
    if json.loads(text)["date"] == "":
        assert json.loads(text) == {"date": "", "machine": "", "controls": []}
        assert controls == []
        return
    assert [control["name"] for control in controls] == list(CONTROL_RECIPES)
    for control in controls:
        assert control["committed"] is True
        assert control["date"]
        assert control["machine"]
        low, high = control["pass_rate_interval"]
        assert 0 <= low <= control["pass_rate"] <= high <= 1
        assert 0 <= control["degenerate_rate"] <= 1


def test_every_packaged_line_is_an_object() -> None:
    """Also of files that no name in the package points to."""
    folder = files("penchant.data.house_style")
    names = [item.name for item in folder.iterdir() if item.name.endswith(".jsonl")]
    assert len(names) >= 5
    for name in names:
        for line in folder.joinpath(name).read_text(encoding="utf-8").splitlines():
            assert isinstance(json.loads(line), dict), name
