"""Pairs whose question stands in columns of other tools' files.

    messages, chosen, rejected                          axolotl's `chat_template.default`: the prompt in messages,
                                                        the sides a text, one message, or messages
    instruction, chosen, rejected                       Alpaca ranking (LLaMA-Factory): an optional `input` follows
                                                        the instruction after a line break, and before it goes an
                                                        optional `history` of [question, answer] exchanges
    instruction, chosen_response, rejected_response     Argilla
    input, chosen, rejected                             axolotl's `icr`

A text in `system` (or `system_prompt`) opens the conversation, unless that has a system turn of its own. Rows of
which `chosen` and `rejected` are whole conversations are read as such, whatever other columns say.
"""

from __future__ import annotations

from collections.abc import Callable

from penchant.data.columns import RowError, kind_of, required, text
from penchant.data.formats.layout import Layout
from penchant.data.formats.sides import Side, continued, text_or_turns
from penchant.data.ledger import Drop
from penchant.data.messages import read_turns
from penchant.data.normalise import Draft, part
from penchant.data.rows import RawRow
from penchant.types import Turn

Turns = tuple[Turn, ...]


def optional_text(row: RawRow, name: str) -> str:
    """Return a column that may be absent, null or blank, each of which is "".

    Raises:
        RowError: It is something else than text.
    """
    value = row.values.get(name)
    if value is not None and not isinstance(value, str):
        raise RowError(f'column "{name}" is {kind_of(value)}, not text')
    return value if value and value.strip() else ""


def opened(row: RawRow, turns: Turns) -> Turns:
    """Return a conversation with the system text of its row before it, unless it has one."""
    system = optional_text(row, "system") or optional_text(row, "system_prompt")
    if not system or turns[0].role == "system":
        return turns
    return (Turn("system", system), *turns)


def history(row: RawRow) -> Turns:
    """Return the exchanges of the column `history`, () where there is none.

    Raises:
        RowError: It is no list of lists of two texts.
    """
    exchanges = row.values.get("history")
    if exchanges is None or (row.all_text and exchanges == ""):
        return ()
    if not isinstance(exchanges, list):
        raise RowError(f'column "history" is {kind_of(exchanges)}, not a list of exchanges')
    turns: list[Turn] = []
    for number, exchange in enumerate(exchanges, start=1):
        match exchange:
            case [str(question), str(answer)]:
                turns += [Turn("user", question), Turn("assistant", answer)]
            case _:
                raise RowError(f'exchange {number} of "history" is not a list of two texts')
    return tuple(turns)


def one_message_or_side(row: RawRow, name: str) -> Side:
    """Return a side that may also be a single message.

    Raises:
        RowError: It is missing or something else.
    """
    value = required(row, name)
    return read_turns(name, [value]) if isinstance(value, dict) else text_or_turns(row, name)


def _pair(
    prompt: Callable[[RawRow], Turns], chosen_column: str, rejected_column: str
) -> Callable[[RawRow], Draft | Drop]:
    def read(row: RawRow) -> Draft | Drop:
        chosen, rejected = (one_message_or_side(row, name) for name in (chosen_column, rejected_column))
        if _is_whole(chosen) and _is_whole(rejected):
            return part(chosen, rejected)  # type: ignore[arg-type]  # both are turns, as _is_whole found
        turns = prompt(row)
        return continued(opened(row, turns) if turns else turns, chosen, rejected)

    return read


def _is_whole(side: Side) -> bool:
    return not isinstance(side, str) and len(side) > 1 and side[0].role != "assistant"


def _messages(row: RawRow) -> Turns:
    found = text_or_turns(row, "messages")
    return (Turn("user", found),) if isinstance(found, str) else found


def _instruction(row: RawRow) -> Turns:
    given = optional_text(row, "input")
    return (*history(row), Turn("user", text(row, "instruction") + (f"\n{given}" if given else "")))


def _input(row: RawRow) -> Turns:
    return (Turn("user", text(row, "input")),)


LAYOUTS = (
    Layout(("instruction", "chosen", "rejected"), _pair(_instruction, "chosen", "rejected")),
    Layout(
        ("instruction", "chosen_response", "rejected_response"),
        _pair(_instruction, "chosen_response", "rejected_response"),
    ),
    Layout(("messages", "chosen", "rejected"), _pair(_messages, "chosen", "rejected")),
    Layout(("input", "chosen", "rejected"), _pair(_input, "chosen", "rejected")),
)
