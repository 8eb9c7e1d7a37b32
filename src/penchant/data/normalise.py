"""From a raw row to a preference pair, or to the ledger with the one reason why not.

Rows come in these forms:

    prompt, chosen, rejected    each a string, or a list of {role, content} messages. A string prompt is
                                one user turn. A side in messages is the response alone, or the whole
                                conversation, which then begins with the prompt.
    chosen, rejected            both whole conversations, as messages or as HH transcripts. The prompt is
                                the turns that both share, never a character prefix.

Optional columns: `id`, `cluster` (pairs that ask the same question), and `chosen_complete` and
`rejected_complete` (false: the response was cut off, so it gets no end token).

What is wrong with a column is wrong with the file and raises; what is wrong with a text drops its row.
Text is kept as it is, save that HH turns lose the whitespace that their format puts around them.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from itertools import pairwise, takewhile

from penchant.data.hh_rlhf import is_transcript, parse_transcript
from penchant.data.ledger import Drop, DropReason
from penchant.data.rows import RawRow
from penchant.errors import DataError, did_you_mean
from penchant.types import ROLES, LedgerEntry, PreferencePair, Role, Turn

_KNOWN_ROLES: dict[str, Role] = {role: role for role in ROLES}


@dataclass(frozen=True)
class _Texts:
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str


def to_pair(row: RawRow) -> PreferencePair | LedgerEntry:
    """Turn a row into a pair, or into a `dropped` entry with its reason.

    Rows are judged one at a time; what only shows across rows is found in `penchant.data.source`.

    Raises:
        DataError: A column is missing or of the wrong type.
    """
    row_id = _label(row, "id") or f"{row.stem}-{row.line}"
    cluster = _label(row, "cluster")
    texts = _texts(row)
    verdict = texts if isinstance(texts, Drop) else _fault(texts)
    if isinstance(verdict, Drop):
        return LedgerEntry(row.source, row.line, row_id, "dropped", verdict.reason.value, verdict.evidence)
    return PreferencePair(
        id=row_id,
        prompt=verdict.prompt,
        chosen=verdict.chosen,
        rejected=verdict.rejected,
        source=row.source,
        line=row.line,
        cluster=cluster or prompt_cluster(verdict.prompt),
        chosen_complete=_flag(row, "chosen_complete"),
        rejected_complete=_flag(row, "rejected_complete"),
    )


def prompt_cluster(prompt: tuple[Turn, ...]) -> str:
    """Return a short name that prompts share when only case, spacing or Unicode form sets them apart."""
    said = ((turn.role, " ".join(turn.content.split())) for turn in prompt)
    lines = "\n".join(f"{role}: {content}" for role, content in said if content)
    normal = unicodedata.normalize("NFKC", lines).casefold()
    return hashlib.sha256(normal.encode("utf-8")).hexdigest()[:16]


def _texts(row: RawRow) -> _Texts | Drop:
    chosen, rejected = _column(row, "chosen"), _column(row, "rejected")
    if "prompt" in row.values:
        return _with_prompt(row, chosen, rejected)
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _without_prompt(_messages(row, "chosen", chosen), _messages(row, "rejected", rejected))
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _from_transcripts(row, chosen, rejected)
    raise DataError(
        'without a "prompt" column, "chosen" and "rejected" must both be conversations of one kind',
        where=row.place,
    )


def _column(row: RawRow, name: str) -> str | list[object]:
    if name not in row.values:
        raise _missing_column(row, name)
    value = row.values[name]
    if not isinstance(value, str | list):
        raise DataError(f'column "{name}" is {_kind(value)}, not text or a list of messages', where=row.place)
    return value


def _missing_column(row: RawRow, name: str) -> DataError:
    columns = ", ".join(row.values) or "none"
    near = did_you_mean(name, row.values)
    return DataError(
        f'no column "{name}"; columns found: {columns}.' + (near if near.startswith(" Did") else ""),
        where=row.place,
        fix="A pair has the columns prompt, chosen and rejected; without prompt, both are conversations.",
    )


def _kind(value: object) -> str:
    """Name a JSON value's type in words, without its content."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return {str: "text", list: "a list", dict: "an object"}.get(type(value), "null")


def _label(row: RawRow, name: str) -> str:
    """Return an optional naming column as text, '' when it is absent or null."""
    value = row.values.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        found = "empty" if value == "" else _kind(value)
        raise DataError(f'column "{name}" is {found}, not a text or a whole number', where=row.place)
    return str(value)


def _flag(row: RawRow, name: str) -> bool:
    """Return an optional true-or-false column, True when it is absent or null."""
    value = row.values.get(name)
    if value is None:
        return True
    if not isinstance(value, bool):
        raise DataError(f'column "{name}" is {_kind(value)}, not true or false', where=row.place)
    return value


def _messages(row: RawRow, name: str, messages: list[object]) -> tuple[Turn, ...]:
    return tuple(_turn(row, f'message {n} of "{name}"', item) for n, item in enumerate(messages, start=1))


def _turn(row: RawRow, what: str, message: object) -> Turn:
    if not isinstance(message, dict):
        raise DataError(f"{what} is {_kind(message)}, not an object with role and content", where=row.place)
    for key in ("role", "content"):
        if key not in message:
            found = ", ".join(message) or "none"
            raise DataError(f'{what} has no "{key}"; keys found: {found}', where=row.place)
        if not isinstance(message[key], str):
            raise DataError(f"{what}: {key} is {_kind(message[key])}, not text", where=row.place)
    role = _KNOWN_ROLES.get(message["role"])
    if role is None:
        raise DataError(f"{what} has an unknown role.{did_you_mean(message['role'], ROLES)}", where=row.place)
    return Turn(role, message["content"])


def _with_prompt(row: RawRow, chosen: str | list[object], rejected: str | list[object]) -> _Texts | Drop:
    value = _column(row, "prompt")
    prompt = (Turn("user", value),) if isinstance(value, str) else _messages(row, "prompt", value)
    responses: list[str] = []
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        response = side if isinstance(side, str) else _response(name, prompt, _messages(row, name, side))
        if isinstance(response, Drop):
            return response
        responses.append(response)
    return _Texts(prompt, *responses)


def _response(name: str, prompt: tuple[Turn, ...], turns: tuple[Turn, ...]) -> str | Drop:
    """Return what a side in messages answers: its only turn, or the one that follows the prompt."""
    if not turns:
        return Drop(DropReason.EMPTY_RESPONSE, f"{name} has no messages")
    if len(turns) == 1 and turns[0].role == "assistant":
        return turns[0].content
    if turns[: len(prompt)] != prompt:
        return Drop(DropReason.PROMPTS_DIFFER, f"{name} does not begin with the prompt")
    rest = turns[len(prompt) :]
    if len(rest) != 1 or rest[0].role != "assistant":
        return Drop(DropReason.RESPONSE_NOT_ONE_TURN, f"{name} has {len(rest)} turns after the prompt")
    return rest[0].content


def _without_prompt(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> _Texts | Drop:
    """Take two whole conversations apart; they may differ in their last turn only."""
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            return Drop(DropReason.RESPONSE_NOT_ONE_TURN, f"{name} does not end with the assistant")
    if chosen[:-1] != rejected[:-1]:
        pairs = zip(chosen, rejected, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return Drop(
            DropReason.PROMPTS_DIFFER,
            f"{shared} turns shared; chosen has {len(chosen)}, rejected has {len(rejected)}",
        )
    return _Texts(chosen[:-1], chosen[-1].content, rejected[-1].content)


def _from_transcripts(row: RawRow, chosen: str, rejected: str) -> _Texts | Drop:
    sides = {"chosen": chosen, "rejected": rejected}
    strangers = [name for name, text in sides.items() if not is_transcript(text)]
    if len(strangers) == len(sides):
        raise _missing_column(row, "prompt")
    if strangers:
        return Drop(DropReason.HH_MALFORMED, f"{strangers[0]} does not begin as a transcript")
    turns = {name: tuple(parse_transcript(text)) for name, text in sides.items()}
    for name, side in turns.items():
        if side[-1].role != "assistant":
            return Drop(DropReason.HH_MALFORMED, f"{name} does not end with the assistant")
    return _without_prompt(turns["chosen"], turns["rejected"])


def _fault(texts: _Texts) -> _Texts | Drop:
    """Return the texts when they make a pair, or the first thing that is wrong with them."""
    prompt = texts.prompt
    if not prompt or not prompt[-1].content.strip():
        return Drop(DropReason.EMPTY_PROMPT)
    for number, (turn, following) in enumerate(pairwise(prompt), start=1):
        if turn.role == following.role:
            return Drop(DropReason.ROLE_ORDER, f"turns {number} and {number + 1} are both {turn.role}")
    if prompt[-1].role == "assistant":
        return Drop(DropReason.ROLE_ORDER, "the prompt ends with the assistant")
    for name, response in (("chosen", texts.chosen), ("rejected", texts.rejected)):
        if not response.strip():
            return Drop(DropReason.EMPTY_RESPONSE, f"{name} is empty")
    if texts.chosen == texts.rejected:
        return Drop(DropReason.IDENTICAL_RESPONSES)
    return texts
