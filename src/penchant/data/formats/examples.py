"""Rows of which one response is to be imitated (SFT), told apart by their columns.

    messages                    a conversation that ends with the assistant
    conversations               the same with {from, value} (ShareGPT)
    prompt, completion          each a text or a list of messages; also `response` in place of `completion`
    instruction, output         Alpaca: an optional `input` follows the instruction after a blank line, an optional
                                `history` of [question, answer] exchanges goes before it
    question, response
    any layout of preference pairs that `local` knows: its chosen side is imitated, its rejected one is not read on

A text in `system` (or `system_prompt`) opens the conversation, unless that has a system turn of its own. A row
labelled false (`label` or `kto_tag`, as KTO has it) shows what not to do, and is dropped.

An example becomes a pair without a rejected response; its prompt is all that stands before its last response.
"""

from __future__ import annotations

from collections.abc import Callable

from penchant.data.columns import RowError, text
from penchant.data.formats import local
from penchant.data.formats.full_hh_rlhf import is_open_transcript
from penchant.data.formats.instructions import history, opened, optional_text
from penchant.data.formats.layout import Layout
from penchant.data.formats.sides import text_or_turns, whole
from penchant.data.hh_rlhf import parse_transcript
from penchant.data.ledger import Drop, DropReason
from penchant.data.normalise import Draft, chosen_alone, example
from penchant.data.rows import RawRow
from penchant.types import Turn

Turns = tuple[Turn, ...]


def _messages(name: str) -> Callable[[RawRow], Turns | Drop]:
    def read(row: RawRow) -> Turns | Drop:
        turns = text_or_turns(row, name)
        if isinstance(turns, str):
            raise RowError(f'column "{name}" is text, not a list of messages')
        return turns

    return read


def _prompted(prompt_column: str, response_column: str) -> Callable[[RawRow], Turns | Drop]:
    def read(row: RawRow) -> Turns | Drop:
        prompt, response = text_or_turns(row, prompt_column), text_or_turns(row, response_column)
        if isinstance(prompt, str):
            if isinstance(response, str) and is_open_transcript(prompt):
                return tuple(parse_transcript(f"{prompt} {response}"))
            prompt = (Turn("user", prompt),)
        return whole(response_column, prompt, response)

    return read


def _instructed(row: RawRow) -> Turns | Drop:
    given = optional_text(row, "input")
    question = text(row, "instruction") + (f"\n\n{given}" if given else "")
    return (*history(row), Turn("user", question), Turn("assistant", text(row, "output")))


def _shows_what_not_to_do(row: RawRow) -> bool:
    return any(
        value is False or (row.all_text and isinstance(value, str) and value.lower() == "false")
        for value in (row.values.get("label"), row.values.get("kto_tag"))
    )


def _imitated(columns: tuple[str, ...], read: Callable[[RawRow], Turns | Drop]) -> Layout:
    def read_example(row: RawRow) -> Draft | Drop:
        if _shows_what_not_to_do(row):
            return Drop(DropReason.UNDESIRABLE, "labelled false")
        turns = read(row)
        if isinstance(turns, Drop):
            return turns
        return example(opened(row, turns) if turns else turns)

    return Layout(columns, read_example)


def _chosen_of(pairs: Layout) -> Layout:
    def read_chosen(row: RawRow) -> Draft | Drop:
        draft = pairs.read(row)
        return draft if isinstance(draft, Drop) else chosen_alone(draft)

    return Layout(pairs.columns, read_chosen)


# By which columns a conversation is known that ends with the response, and how it is read.
CONVERSATIONS: tuple[tuple[tuple[str, ...], Callable[[RawRow], Turns | Drop]], ...] = (
    (("messages",), _messages("messages")),
    (("conversations",), _messages("conversations")),
    (("prompt", "completion"), _prompted("prompt", "completion")),
    (("instruction", "output"), _instructed),
    (("prompt", "response"), _prompted("prompt", "response")),
    (("question", "response"), _prompted("question", "response")),
)
LAYOUTS = (
    *(_chosen_of(layout) for layout in local.LAYOUTS),  # first: such rows may hold `messages` of their own too
    *(_imitated(columns, read) for columns, read in CONVERSATIONS),
)
