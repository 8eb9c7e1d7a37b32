"""Pairs as TRL has them: one text, the border where the ids part, and each side cut by itself."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tiny import END, START, tiny_tokenizer

from penchant.config import DataConfig
from penchant.errors import UsageError
from penchant.library.settings import config_of
from penchant.tokens.chat import chat_format, tokenize_pair
from penchant.types import LedgerEntry, PreferencePair, TokenizedPair, Turn

ASK = (Turn("user", "the sun"),)
CHOSEN, REJECTED = Turn("assistant", "shines warm"), Turn("assistant", "falls")


def settings(name: str, max_tokens: int = 200) -> DataConfig:
    return DataConfig.model_validate({"format": name, "truncation": "keep_start", "max_tokens": max_tokens})


def joined(
    name: str, max_tokens: int = 200, *, template: bool = True, **changes: Any
) -> tuple[TokenizedPair | None, LedgerEntry]:
    values = {"prompt": ASK, "chosen": CHOSEN.content, "rejected": REJECTED.content, **changes}
    chat = chat_format(tiny_tokenizer(template=template))
    return tokenize_pair(PreferencePair("a", **values), chat, settings(name, max_tokens))


def rendered(*turns: Turn, header: bool = False) -> tuple[int, ...]:
    """The ids that transformers makes of messages."""
    found = tiny_tokenizer().apply_chat_template(
        [turn.as_message() for turn in turns], add_generation_prompt=header, return_dict=True
    )
    return tuple(found["input_ids"])


def test_messages_are_rendered_whole_and_what_follows_the_end_of_a_turn_is_scored() -> None:
    found, entry = joined("trl_chat")
    assert found is not None
    assert entry.fate == "kept"
    assert found.prompt_ids == rendered(*ASK, header=True)
    assert found.prompt_ids + found.chosen_ids == rendered(*ASK, CHOSEN)
    assert found.prompt_ids + found.rejected_ids == rendered(*ASK, REJECTED)
    assert found.chosen_ids[-2] == END  # a line break follows it
    assert found.chosen_scored is None


def test_turns_before_a_response_are_scored_too() -> None:
    lead = (Turn("assistant", "what?"), Turn("user", "the moon"))
    found, _ = joined("trl_chat", chosen_lead=lead)
    assert found is not None
    assert found.prompt_ids + found.chosen_ids == rendered(*ASK, *lead, CHOSEN)
    assert found.num_scored == (len(found.chosen_ids), len(found.rejected_ids))


@pytest.mark.parametrize("ended", [True, False])
def test_bare_text_ends_with_eos_once_and_may_hold_control_tokens(ended: bool) -> None:
    tokenizer = tiny_tokenizer(template=False)
    prompt, response = "<|im_start|>the sun ", "shines warm"
    found, _ = joined(
        "trl_text",
        template=False,
        prompt=(Turn("user", prompt),),
        chosen=response + tokenizer.eos_token * ended,
    )
    assert found is not None
    assert found.prompt_ids == tuple(tokenizer(prompt).input_ids)
    assert found.prompt_ids[0] == START
    assert found.prompt_ids + found.chosen_ids == tuple(
        tokenizer(prompt + response + tokenizer.eos_token).input_ids
    )


def test_each_side_is_cut_by_itself_and_a_prompt_that_fills_the_room_drops_the_pair() -> None:
    whole, _ = joined("trl_chat")
    assert whole is not None
    room = len(whole.prompt_ids)
    cut, entry = joined("trl_chat", room + 6)
    assert cut is not None
    assert (cut.chosen_ids, cut.rejected_ids) == (whole.chosen_ids[:6], whole.rejected_ids[:6])
    assert (entry.fate, entry.reason) == ("cut", "response_cut")
    assert (cut.chosen_complete, cut.rejected_complete) == (False, False)
    dropped, entry = joined("trl_chat", room)
    assert dropped is None
    assert entry.reason == "prompt_too_long"


def test_sides_that_are_equal_after_the_cut_are_kept() -> None:
    """They teach nothing, but count in TRL's mean."""
    found, _ = joined("trl_chat", len(rendered(*ASK, header=True)) + 2, rejected="shady")
    assert found is not None
    assert found.chosen_ids == found.rejected_ids


def test_a_message_that_forges_a_turn_is_dropped() -> None:
    found, entry = joined("trl_chat", chosen="a<|im_end|>")
    assert found is None
    assert entry.reason == "special_token_in_text"


@pytest.mark.parametrize("change", [{"truncation": "cut"}, {"loss_turns": "all_assistant"}])
def test_what_it_does_not_use_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="keep_start"):
        config_of({"data": {"format": "trl_chat", "truncation": "keep_start", **change}})
