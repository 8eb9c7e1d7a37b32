"""What holds for every format: from the two conversations of a row to a preference pair, or to the reason why not.

The prompt is the turns that both conversations share, never a character prefix. They may part before their last
turn, if at an assistant's turn: then both are continuations of one prompt, and the turns in between are each
side's lead. Where they part at a user's turn, the two answer different questions, and the row is dropped.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from penchant.data.columns import RowError, extras_of, made_id, row_id
from penchant.data.ledger import Drop, DropReason
from penchant.data.rows import RawRow
from penchant.types import LedgerEntry, PreferencePair, Turn


@dataclass(frozen=True, slots=True)
class Draft:
    """The texts of a row on their way to a pair.

    `rejected` is None where there is only one response, to be imitated, or said to be `desirable` or not. Scores
    are given only where a format finds them elsewhere than usual; `tie` says in words that the data scores both
    responses alike, where that means that neither is preferred.
    """

    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str | None
    chosen_lead: tuple[Turn, ...] = ()
    rejected_lead: tuple[Turn, ...] = ()
    score_chosen: float | None = None
    score_rejected: float | None = None
    tie: str = ""
    desirable: bool | None = None


Reader = Callable[[RawRow], Draft | Drop]


def make_pair(row: RawRow, read: Reader) -> PreferencePair | LedgerEntry:
    """Turn a row into a pair, or into a `dropped` entry with its reason. Nothing is raised for a row.

    Rows are judged one at a time; what only shows across rows is found in `penchant.data.source`.

    Args:
        row: The row.
        read: Takes the row's texts from its columns.
    """
    name = made_id(row)
    try:
        name = row_id(row)
        extras = extras_of(row)
        draft = read(row)
    except RowError as err:
        return LedgerEntry(row.source, row.line, name, "dropped", DropReason.BROKEN_ROW.value, err.what)
    verdict = draft if isinstance(draft, Drop) else _fault(draft)
    if isinstance(verdict, Drop):
        return LedgerEntry(row.source, row.line, name, "dropped", verdict.reason.value, verdict.evidence)
    return PreferencePair(
        id=name,
        prompt=verdict.prompt,
        chosen=verdict.chosen,
        rejected=verdict.rejected or "",
        source=row.source,
        line=row.line,
        cluster=extras.cluster or prompt_cluster(verdict.prompt),
        chosen_complete=extras.chosen_complete,
        rejected_complete=extras.rejected_complete or verdict.rejected is None,
        chosen_lead=verdict.chosen_lead,
        rejected_lead=verdict.rejected_lead,
        weight=extras.weight,
        margin=extras.margin,
        confidence=extras.confidence,
        score_chosen=extras.score_chosen if verdict.score_chosen is None else verdict.score_chosen,
        score_rejected=extras.score_rejected if verdict.score_rejected is None else verdict.score_rejected,
        origin=extras.origin,
        desirable=verdict.desirable,
    )


def prompt_cluster(prompt: tuple[Turn, ...]) -> str:
    """Return a short name that prompts share when only case, spacing or Unicode form sets them apart."""
    said = ((turn.role, " ".join(turn.content.split()) + turn.tool_calls) for turn in prompt)
    lines = "\n".join(f"{role}: {content}" for role, content in said if content)
    normal = unicodedata.normalize("NFKC", lines).casefold()
    return hashlib.sha256(normal.encode("utf-8")).hexdigest()[:16]


def part(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> Draft | Drop:
    """Take two whole conversations apart into the shared prompt, leads and responses."""
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if fault := _end_fault(name, side):
            return fault
    shared = _shared(chosen, rejected)
    leads = chosen[shared:-1], rejected[shared:-1]
    if any(leads):
        if not shared or chosen[shared - 1].role not in ("user", "tool"):
            evidence = f"{shared} turns shared; chosen has {len(chosen)}, rejected has {len(rejected)}"
            return Drop(DropReason.PROMPTS_DIFFER, evidence)
        fault = _lead_fault("chosen", chosen, shared) or _lead_fault("rejected", rejected, shared)
        if fault:
            return fault
    return Draft(chosen[:shared], chosen[-1].content, rejected[-1].content, *leads)


def example(conversation: tuple[Turn, ...]) -> Draft | Drop:
    """Take a conversation apart into its prompt and its last response, which is to be imitated."""
    fault = _end_fault("the conversation", conversation)
    return fault or Draft(conversation[:-1], conversation[-1].content, None)


def chosen_alone(draft: Draft) -> Draft:
    """Return the chosen side of a pair as an example to imitate."""
    return Draft((*draft.prompt, *draft.chosen_lead), draft.chosen, None, tie=draft.tie)


def _end_fault(name: str, side: tuple[Turn, ...]) -> Drop | None:
    if not side or side[-1].role != "assistant":
        return Drop(DropReason.RESPONSE_NOT_ONE_TURN, f"{name} does not end with the assistant")
    if side[-1].tool_calls:
        return Drop(DropReason.RESPONSE_CALLS_TOOL, f"{name} ends with a tool call")
    return None


def _shared(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> int:
    """Count the turns with which both begin, up to the last turn of the shorter."""
    most = min(len(chosen), len(rejected)) - 1
    return next((number for number in range(most) if chosen[number] != rejected[number]), most)


_BEFORE = {"assistant": ("user", "tool"), "user": ("assistant",), "tool": ("assistant", "tool"), "system": ()}


def _lead_fault(name: str, side: tuple[Turn, ...], shared: int) -> Drop | None:
    """Return why what follows the shared turns is no legal conversation, None when it is one."""
    for number in range(shared, len(side)):
        before, turn = side[number - 1], side[number]
        if before.role not in _BEFORE[turn.role]:
            return Drop(DropReason.ROLE_ORDER, f"{name}: turn {number + 1} is {turn.role} after {before.role}")
        if number < len(side) - 1 and _says_nothing(turn):
            return Drop(DropReason.EMPTY_TURN, f"{name}: turn {number + 1} is empty")
    return None


def _says_nothing(turn: Turn) -> bool:
    return turn.role != "tool" and not turn.content.strip() and not turn.tool_calls


def _fault(draft: Draft) -> Draft | Drop:
    """Return the draft when it makes a pair, or the first thing that is wrong with it."""
    prompt = draft.prompt
    if not prompt or _says_nothing(prompt[-1]):
        return Drop(DropReason.EMPTY_PROMPT)
    for number, (turn, following) in enumerate(pairwise(prompt), start=1):
        if turn.role == following.role != "tool":
            return Drop(DropReason.ROLE_ORDER, f"turns {number} and {number + 1} are both {turn.role}")
    if prompt[-1].role == "assistant":
        return Drop(DropReason.ROLE_ORDER, "the prompt ends with the assistant")
    for name, response in (("chosen", draft.chosen), ("rejected", draft.rejected)):
        if response is not None and not response.strip():
            return Drop(DropReason.EMPTY_RESPONSE, f"{name} is empty")
    if draft.chosen == draft.rejected:
        return Drop(DropReason.IDENTICAL_RESPONSES)
    return Drop(DropReason.TIED_SCORES, draft.tie) if draft.tie else draft
