"""From votes to pairs that train, and to votes that judges are compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.arenas import contest, likes_first, voted
from tests.tiny import tiny_tokenizer

from penchant.data.source import load_pairs
from penchant.evaluation.arena.contest import Contest, Entry, Said
from penchant.evaluation.arena.export import preference_rows, write_export
from penchant.evaluation.arena.figures import arena_figures
from penchant.evaluation.arena.votes import Choice
from penchant.evaluation.judges.answer_file import read_answers
from penchant.evaluation.judges.votes import read_votes
from penchant.tokens.chat import chat_format
from penchant.types import Turn

RULE: dict[int, Choice] = {0: "tie", 1: "bad", 2: "skip"}


def rule(entry: int, swapped: bool) -> Choice:
    return RULE.get(entry, likes_first(entry, swapped))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_pairs_come_back_as_tokens_and_nothing_is_silently_lost(tmp_path: Path) -> None:
    found = contest(40, repeats=0.5)
    votes = voted(found, ("ann", rule))
    counts = write_export(tmp_path, found, votes, arena_figures(found.names, 40, votes))
    assert counts["pairs"] == 37
    assert {reason: count for reason, count in counts["undecided"].items() if count} == {
        "tie": 1,
        "both bad": 1,
        "skipped": 1,
    }
    assert counts["not_rated"] == 0
    assert [(row["id"], row["reason"]) for row in rows(tmp_path / "undecided.jsonl")] == [
        ("q0", "tie"),
        ("q1", "both bad"),
        ("q2", "skipped"),
    ]
    pairs, ledger = load_pairs(tmp_path / "pairs.jsonl")
    assert {entry.fate for entry in ledger} == {"kept"}
    assert (pairs[0].id, pairs[0].chosen, pairs[0].rejected) == ("q3", "sunny answer 3", "rainy answer 3")
    assert {pair.confidence for pair in pairs} == {1.0}  # no label changed in the repeats
    chat = chat_format(tiny_tokenizer())
    tokens = chat.prompt_ids(pairs[0].prompt)
    assert "Question 3?" in tiny_tokenizer().decode(list(tokens))


def test_votes_and_answers_are_what_judges_read(tmp_path: Path) -> None:
    found = contest(8)
    votes = voted(found, ("ann", rule), ("bob", likes_first))
    write_export(tmp_path, found, votes, arena_figures(found.names, 8, votes))
    said = read_votes(tmp_path / "votes.jsonl")
    assert said["q0"] == said["q1"] == "tie"  # one for it, one for neither
    assert said["q2"] == said["q7"] == "first"
    answers = read_answers(tmp_path / "answers.jsonl")
    assert [prompt.id for prompt in answers.prompts] == [f"q{number}" for number in range(8)]
    assert answers.policy[3].text == "sunny answer 3"


def test_a_label_is_as_sure_as_the_noise_and_the_lead_make_it() -> None:
    found = contest(4, repeats=0)
    votes = voted(found, ("ann", likes_first), ("bob", likes_first))
    pairs, _ = preference_rows(found, votes, noise=0.2)
    assert pairs[0]["confidence"] == pytest.approx(0.64 / (0.64 + 0.04))
    assert "confidence" not in preference_rows(found, votes)[0][0]
    split = voted(found, ("ann", likes_first), ("bob", lambda entry, swapped: "left" if swapped else "right"))
    pairs, undecided = preference_rows(found, split)
    assert pairs == []
    assert {row["reason"] for row in undecided} == {"raters differ"}


def test_a_conversation_keeps_its_turns_and_a_cut_answer_gets_no_end(tmp_path: Path) -> None:
    entry = Entry(
        "c",
        (Turn("system", "Be brief."), Turn("user", "Why?")),
        Said(("So.", "Yes.")),
        Said(("Hm.", "N"), False),
        ("Sure?",),
    )
    found = Contest(("one", "other"), (entry,))
    votes = voted(found, ("ann", likes_first))
    write_export(tmp_path, found, votes, arena_figures(found.names, 1, votes))
    [pair], _ = load_pairs(tmp_path / "pairs.jsonl")
    assert pair.prompt == entry.turns
    assert pair.chosen_lead == (Turn("assistant", "So."), Turn("user", "Sure?"))
    assert (pair.chosen, pair.rejected) == ("Yes.", "N")
    assert (pair.chosen_complete, pair.rejected_complete) == (True, False)
    assert read_answers(tmp_path / "answers.jsonl").prompts[0].later == ("Sure?",)
