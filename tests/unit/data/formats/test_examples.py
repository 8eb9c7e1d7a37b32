"""Rows of which one response is to be imitated, layout by layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from penchant.data.formats import EXAMPLES, FORMATS
from penchant.data.ledger import Ledger
from penchant.data.rows import RawRow
from penchant.data.source import load_pairs
from penchant.errors import DataError
from penchant.types import LedgerEntry, PreferencePair, Turn

Raw = Callable[..., RawRow]

TALK = (Turn("user", "Hello"), Turn("assistant", "Hello!"), Turn("user", "Name a river."))
MESSAGES = [{"role": turn.role, "content": turn.content} for turn in TALK]
ANSWER = {"role": "assistant", "content": "The Elbe."}
OPEN = "\n\nHuman: Hello\n\nAssistant: Hello!\n\nHuman: Name a river.\n\nAssistant:"


def example_of(row: RawRow) -> tuple[tuple[Turn, ...], str]:
    """Prompt and response of a row, which has nothing of a rejected side."""
    pair = EXAMPLES.to_pair(row)
    assert isinstance(pair, PreferencePair), pair
    assert (pair.rejected, pair.rejected_lead, pair.chosen_lead) == ("", (), ())
    assert pair.rejected_complete
    return pair.prompt, pair.chosen


def drop_of(row: RawRow) -> tuple[str, str]:
    entry = EXAMPLES.to_pair(row)
    assert isinstance(entry, LedgerEntry), entry
    return entry.reason, entry.evidence


@pytest.mark.parametrize(
    "values",
    [
        {"messages": [*MESSAGES, ANSWER]},
        {
            "conversations": [
                {"from": "human", "value": "Hello"},
                {"from": "gpt", "value": "Hello!"},
                {"from": "human", "value": "Name a river."},
                {"from": "gpt", "value": "The Elbe."},
            ]
        },
        {"prompt": MESSAGES, "completion": [ANSWER]},
        {"prompt": MESSAGES, "completion": "The Elbe."},
        {"prompt": OPEN, "completion": "The Elbe."},
        {"prompt": MESSAGES, "response": "The Elbe."},
        {"instruction": "Name a river.", "output": "The Elbe.", "history": [["Hello", "Hello!"]], "input": ""},
        {"chosen": [*MESSAGES, ANSWER], "rejected": [*MESSAGES, {"role": "assistant", "content": "No."}]},
        {"chosen": f"{OPEN} The Elbe.", "rejected": f"{OPEN} No."},
        {"prompt": MESSAGES, "messages": [], "chosen": [*MESSAGES, ANSWER], "rejected": [*MESSAGES, ANSWER]},
    ],
    ids="+".join,
)
def test_every_layout_gives_the_same_conversation(raw: Raw, values: dict[str, object]) -> None:
    """Those of pairs go before: their rows may hold `messages` of their own, which are not read."""
    assert example_of(raw(**values)) == (TALK, "The Elbe.")


def test_single_turns_in_text(raw: Raw) -> None:
    asked = (Turn("user", "Name a river."),)
    assert example_of(raw(prompt="Name a river.", completion=" Elbe")) == (asked, " Elbe")
    assert example_of(raw(question="Name a river.", response="Elbe")) == (asked, "Elbe")
    assert example_of(raw(instruction="Name a river.", input=None, output="Elbe")) == (asked, "Elbe")
    joined = (Turn("user", "Translate.\n\nFluss"),)
    assert example_of(raw(instruction="Translate.", input="Fluss", output="river")) == (joined, "river")


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_opens_the_conversation_unless_it_has_a_system_turn(raw: Raw, column: str) -> None:
    brief = Turn("system", "Be brief.")
    prompt, _ = example_of(raw(instruction="Name a river.", output="Elbe", **{column: "Be brief."}))
    assert prompt == (brief, Turn("user", "Name a river."))
    own = [{"role": "system", "content": "Rhyme."}, *MESSAGES, ANSWER]
    assert example_of(raw(messages=own, **{column: "Be brief."}))[0][0] == Turn("system", "Rhyme.")
    assert example_of(raw(messages=[*MESSAGES, ANSWER], **{column: " "}))[0] == TALK


def test_the_chosen_side_of_a_pair_does_not_ask_about_the_rejected_one(raw: Raw) -> None:
    """Identical or empty rejected responses make no pair, but the chosen one can be imitated."""
    for rejected in ("The Elbe.", "", " "):
        row = raw(prompt=MESSAGES, chosen="The Elbe.", rejected=rejected)
        assert isinstance(FORMATS["local"].to_pair(row), LedgerEntry)
        assert example_of(row) == (TALK, "The Elbe.")


def test_where_sides_part_early_the_lead_is_prompt(raw: Raw) -> None:
    lead = [{"role": "assistant", "content": "Which?"}, {"role": "user", "content": "Any."}]
    row = raw(prompt=MESSAGES, chosen="The Elbe.", chosen_lead=lead, rejected="No.")
    assert example_of(row) == ((*TALK, Turn("assistant", "Which?"), Turn("user", "Any.")), "The Elbe.")


@pytest.mark.parametrize("label", [{"label": False}, {"kto_tag": False}])
def test_what_is_labelled_false_is_not_imitated(raw: Raw, label: dict[str, bool]) -> None:
    assert drop_of(raw(prompt="a", completion="b", **label)) == ("undesirable", "labelled false")
    assert drop_of(raw(messages=[*MESSAGES, ANSWER], **label))[0] == "undesirable"
    assert example_of(raw(prompt="a", completion="b", **dict.fromkeys(label, True)))[1] == "b"
    assert example_of(raw(prompt="a", completion="b", label=0))[1] == "b"  # a class of something else
    text = RawRow("rows.csv", 2, {"prompt": "a", "completion": "b", "label": "False"}, all_text=True)
    assert drop_of(text)[0] == "undesirable"


@pytest.mark.parametrize(
    ("values", "reason", "evidence"),
    [
        ({"messages": MESSAGES}, "response_not_one_turn", "the conversation does not end with the assistant"),
        ({"messages": []}, "response_not_one_turn", ""),
        ({"messages": [ANSWER]}, "empty_prompt", ""),
        ({"messages": [*MESSAGES, {"role": "assistant", "content": " "}]}, "empty_response", "chosen is empty"),
        ({"messages": [*MESSAGES, ANSWER, ANSWER]}, "role_order", "the prompt ends with the assistant"),
        (
            {"messages": [*MESSAGES, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
            "response_calls_tool",
            "",
        ),
        ({"messages": "Hello"}, "broken_row", 'column "messages" is text, not a list of messages'),
        ({"instruction": "a", "output": 3}, "broken_row", 'column "output" is a number, not text'),
        ({"instruction": "a", "input": 3, "output": "b"}, "broken_row", 'column "input" is a number'),
        ({"instruction": "a", "output": "b", "history": ["c"]}, "broken_row", 'exchange 1 of "history"'),
        ({"instruction": "a", "output": "b", "history": "c"}, "broken_row", 'column "history" is text'),
        ({"prompt": MESSAGES, "completion": []}, "empty_response", "completion has no messages"),
    ],
    ids=str,
)
def test_what_cannot_be_imitated_has_its_reason(
    raw: Raw, values: dict[str, object], reason: str, evidence: str
) -> None:
    found = drop_of(raw(**values))
    assert found[0] == reason
    assert evidence in found[1]


def test_a_file_is_read_with_a_fate_for_every_row(write_lines: Callable[..., Path]) -> None:
    """Two questions once each; what comes again and what is labelled false is dropped with its reason."""
    file = write_lines(
        {"prompt": "a", "completion": "b"},
        {"prompt": "c", "completion": "d", "label": True},
        {"prompt": "a", "completion": "b"},
        {"prompt": "e", "completion": "f", "label": False},
    )
    pairs, ledger = load_pairs(file, data_format=EXAMPLES)
    assert [pair.chosen for pair in pairs] == ["b", "d"]
    assert isinstance(ledger, Ledger)
    assert [entry.reason for entry in ledger] == ["", "", "duplicate_pair", "undesirable"]


def test_a_file_of_something_else_is_refused_at_its_first_row(write_lines: Callable[..., Path]) -> None:
    file = write_lines({"text": "Once upon a time"})
    with pytest.raises(DataError, match=r"Rows of examples to imitate have .*messages; or conversations"):
        load_pairs(file, data_format=EXAMPLES)


def test_pairs_are_still_asked_of_data_that_has_none(write_lines: Callable[..., Path]) -> None:
    """Training on preferences refuses examples, and names the verb that takes them."""
    with pytest.raises(DataError, match=r"not preference pairs(.|\n)*penchant sft"):
        load_pairs(write_lines({"messages": [*MESSAGES, ANSWER]}))
