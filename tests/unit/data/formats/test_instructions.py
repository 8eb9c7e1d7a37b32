"""Rows as axolotl, LLaMA-Factory and Argilla lay out their pairs."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.data.formats import FORMATS
from penchant.data.rows import RawRow
from penchant.types import LedgerEntry, PreferencePair


def read(**values: Any) -> PreferencePair | LedgerEntry:
    return FORMATS["local"].to_pair(RawRow("rows.jsonl", 1, values))


def said(pair: PreferencePair | LedgerEntry) -> tuple[list[tuple[str, str]], str, str]:
    assert isinstance(pair, PreferencePair), pair
    return [(turn.role, turn.content) for turn in pair.prompt], pair.chosen, pair.rejected


USER = {"role": "user", "content": "A bird?"}
GOOD, BAD = {"role": "assistant", "content": "A wren."}, {"role": "assistant", "content": "No."}
EXPECTED = ([("user", "A bird?")], "A wren.", "No.")


@pytest.mark.parametrize("sides", [(GOOD, BAD), ([GOOD], [BAD]), ("A wren.", "No."), ([USER, GOOD], [USER, BAD])])
@pytest.mark.parametrize("messages", [[USER], "A bird?"])
def test_axolotls_messages_are_the_prompt_of_sides_in_any_form(sides: tuple[Any, Any], messages: Any) -> None:
    assert said(read(messages=messages, chosen=sides[0], rejected=sides[1])) == EXPECTED


def test_whole_conversations_are_read_as_such_beside_messages_that_hold_the_chosen_one() -> None:
    assert said(read(messages=[USER, GOOD], chosen=[USER, GOOD], rejected=[USER, BAD])) == EXPECTED


def test_an_alpaca_ranking_joins_input_and_history() -> None:
    pair = read(
        instruction="Name it.", input="It sings.", history=[["Hi", "Hello"]], system="Be brief.", chosen="A wren.",
        rejected="No.",
    )  # fmt: skip
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Name it.\nIt sings.")]
    assert said(pair) == (turns, "A wren.", "No.")


@pytest.mark.parametrize(
    "columns",
    [
        {"instruction": "A bird?", "chosen_response": "A wren.", "rejected_response": "No."},
        {"instruction": "A bird?", "input": "", "chosen": "A wren.", "rejected": "No."},
        {"input": "A bird?", "chosen": "A wren.", "rejected": "No.", "system": None},
    ],
)
def test_other_names_of_the_question_are_known(columns: dict[str, Any]) -> None:
    assert said(read(**columns)) == EXPECTED


def test_a_value_of_another_type_breaks_its_row_alone() -> None:
    broken = read(instruction=3, chosen="a", rejected="b")
    assert isinstance(broken, LedgerEntry)
    assert broken.evidence == 'column "instruction" is a number, not text'
    assert isinstance(read(input="a", system=3, chosen="a", rejected="b"), LedgerEntry)
    assert isinstance(read(instruction="a", history="b", chosen="a", rejected="b"), LedgerEntry)
