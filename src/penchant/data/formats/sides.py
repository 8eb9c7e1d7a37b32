"""A prompt and two sides, each a response alone or a conversation, as one draft."""

from __future__ import annotations

from penchant.data.columns import RowError, kind_of, required
from penchant.data.ledger import Drop, DropReason
from penchant.data.messages import read_turns
from penchant.data.normalise import Draft, part
from penchant.data.rows import RawRow
from penchant.types import Turn

Side = str | tuple[Turn, ...]


def text_or_turns(row: RawRow, name: str) -> Side:
    """Return a column that must be a text or a list of messages.

    Raises:
        RowError: It is missing or something else.
    """
    value = required(row, name)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return read_turns(name, value)
    raise RowError(f'column "{name}" is {kind_of(value)}, not text or a list of messages')


def continued(prompt: tuple[Turn, ...], chosen: Side, rejected: Side) -> Draft | Drop:
    """Take apart what two sides make of a prompt.

    Args:
        prompt: The turns that both answer.
        chosen: The response; or turns, which either follow the prompt or begin with it.
        rejected: Likewise.
    """
    conversations: list[tuple[Turn, ...]] = []
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        conversation = whole(name, prompt, side)
        if isinstance(conversation, Drop):
            return conversation
        conversations.append(conversation)
    return part(*conversations)


def whole(name: str, prompt: tuple[Turn, ...], side: Side) -> tuple[Turn, ...] | Drop:
    """Return the whole conversation that a side makes of a prompt; `name` is what evidence calls the side."""
    if isinstance(side, str):
        return (*prompt, Turn("assistant", side))
    if not side:
        return Drop(DropReason.EMPTY_RESPONSE, f"{name} has no messages")
    if prompt and side[: len(prompt)] == prompt:
        return side
    if side[0].role == "assistant":
        return prompt + side
    return Drop(DropReason.PROMPTS_DIFFER, f"{name} does not begin with the prompt")
