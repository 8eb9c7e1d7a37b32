from __future__ import annotations

import pytest

from penchant.data.hh_rlhf import is_transcript, parse_transcript
from penchant.errors import DataError
from penchant.types import Turn


def test_turns_are_split_and_stripped() -> None:
    text = "\n\nHuman: Which bird sings?\n\nAssistant: A wren.\nOr a robin. \n\nHuman:Thanks\n\nAssistant:"
    assert parse_transcript(text) == [
        Turn("user", "Which bird sings?"),
        Turn("assistant", "A wren.\nOr a robin."),
        Turn("user", "Thanks"),
        Turn("assistant", ""),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "A play: Human: hello. Assistant: hi.",
        "A play:\nHuman: hello\nAssistant: hi",
        "A play:\n\n Human: hello",
        "\n\nHumans: a history",
        "\n\nHuman beings: a history",
        "\n\nhuman: lower case",
    ],
)
def test_a_role_word_opens_a_turn_only_after_a_blank_line_and_with_its_colon(words: str) -> None:
    turns = parse_transcript(f"\n\nHuman: Write.\n\nAssistant: {words}")
    assert turns == [Turn("user", "Write."), Turn("assistant", words.strip())]


def test_a_role_that_speaks_twice_comes_out_twice() -> None:
    text = "\n\nHuman: One\n\nHuman: Two\n\nAssistant: Three"
    assert [turn.role for turn in parse_transcript(text)] == ["user", "user", "assistant"]


@pytest.mark.parametrize("text", ["", "Human: hi", "\nHuman: hi", "\n\nAssistant: hi", " \n\nHuman: hi"])
def test_what_does_not_begin_with_a_human_turn_is_no_transcript(text: str) -> None:
    assert not is_transcript(text)
    with pytest.raises(DataError, match="begins with two newlines"):
        parse_transcript(text)
