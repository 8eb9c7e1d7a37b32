"""Prompts of a loop: read, parted, and no held-out one among those that are trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.tiny import write_rows

from penchant.errors import DataError, UsageError
from penchant.evaluation.house_style import SYSTEM_PROMPT
from penchant.types import Prompt, Turn
from penchant.workflow.online.prompts import asked, named_prompts, parted


def prompt(name: str, text: str) -> Prompt:
    return Prompt(name, (Turn("user", text),))


def test_the_packaged_questions_come_with_the_instruction_that_the_pairs_had() -> None:
    prompts = named_prompts("house-style:validation")
    assert len(prompts) == 120
    assert {p.turns[0] for p in prompts} == {Turn("system", SYSTEM_PROMPT)}
    with pytest.raises(UsageError, match="no packaged file"):
        named_prompts("house-style:dev")


def test_a_files_other_columns_are_facts_and_a_system_turn_may_lead(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "Say it.", "kind": 3}, {"prompt": "Why?"}]
    first, second = named_prompts(str(write_rows(tmp_path / "p.jsonl", rows)), "Be short.")
    assert (first.id, first.facts, first.text) == ("a", {"kind": 3}, "Say it.")
    assert (second.id, second.text) == ("p-2", "Why?")
    assert [turn.role for turn in second.turns] == ["system", "user"]


@pytest.mark.parametrize(
    ("rows", "what"),
    [([{"text": "x"}], "no column"), ([{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}], "comes again")],
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, rows: list[dict], what: str) -> None:
    with pytest.raises(DataError, match=what):
        named_prompts(str(write_rows(tmp_path / "p.jsonl", rows)))


def test_a_held_out_prompt_that_is_trained_on_is_refused_whatever_its_spelling() -> None:
    with pytest.raises(DataError, match="1 of the held-out prompts are asked in training too: b"):
        parted([prompt("a", "Why do cats  PURR?")], [prompt("b", "why do cats purr?")], seed=0)


def test_without_held_out_prompts_a_fifth_is_held_out_and_repeats_stay_on_one_side() -> None:
    prompts = [prompt(f"p-{number}", f"question {number % 200}") for number in range(400)]
    ours, theirs = parted(prompts, None, seed=1)
    assert len(ours) + len(theirs) == 400
    assert 40 <= len(theirs) <= 120
    assert not {asked(p) for p in ours} & {asked(p) for p in theirs}


def test_the_seed_orders_the_prompts_and_nothing_else_does() -> None:
    prompts, held_out = [prompt(f"p-{n}", f"question {n}") for n in range(30)], [prompt("h", "other")]
    order = [p.id for p in parted(prompts, held_out, seed=1)[0]]
    assert order == [p.id for p in parted(prompts[::-1], held_out, seed=1)[0]]
    assert order != [p.id for p in parted(prompts, held_out, seed=2)[0]]
    assert order != [p.id for p in prompts]


def test_one_prompt_cannot_be_on_both_sides() -> None:
    with pytest.raises(DataError, match="and 0 held out"):
        parted([prompt("a", "x")], [], seed=0)


@pytest.mark.parametrize("side", ["train", "held out"])
def test_a_prompt_of_several_questions_is_refused_and_not_asked_in_part(side: str) -> None:
    one, other = prompt("a", "x"), replace(prompt("b", "y"), later=("And then?",))
    prompts, held_out = ([other], [one]) if side == "train" else ([one], [other])
    with pytest.raises(DataError, match='the prompt "b" asks 2 questions'):
        parted(prompts, held_out, seed=0)
