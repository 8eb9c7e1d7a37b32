"""Arenas that are sent out as one file, and votes that come back.

A page holds no names and no key to its sides. Each choice on it carries a code, a keyed digest that only the
arena's file can make: a vote whose code does not fit its pair and its choice was not given on that page. This
tells damage and careless changes; who has the page can vote on it as they like, as any rater can.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.errors import DataError
from penchant.evaluation.arena.contest import Contest
from penchant.evaluation.arena.vote_store import Arena
from penchant.evaluation.arena.votes import CHOICES, Choice, rater_name

FORMAT = "penchant-arena-votes-1"
LARGEST = 1 << 24  # bytes of a file of votes
_NOTE = "ballot:"


@dataclass(frozen=True)
class Read:
    """What came of a file of votes.

    Attributes:
        rater: Whose they are.
        new: Votes that were taken.
        known: Votes that had been read before.
        other: Showings on which the rater had voted otherwise before; the first vote stays.
    """

    rater: str
    new: int
    known: int
    other: int


def new_ballot(arena: Arena) -> str:
    """Return the number of a new page to send out, which the arena's file remembers.

    Raises:
        DiskError: The file cannot be written.
    """
    ballot = secrets.token_hex(8)
    arena.keep_note(f"{_NOTE}{ballot}", "sent")
    return ballot


def series_of(ballot: str) -> str:
    """Return the series of showings of a page."""
    return f"page:{ballot}"


def code_of(contest: Contest, ballot: str, position: int, choice: str) -> str:
    """Return the code that a choice on a page carries."""
    message = "\0".join(("code", ballot, str(position), choice)).encode()
    return hmac.new(contest.secret.encode(), message, hashlib.sha256).hexdigest()[:12]


def read_ballot(arena: Arena, path: Path) -> Read:
    """Take the votes of a file that a page made; reading it twice changes nothing.

    Either all of its votes are taken or, where one is wrong, none.

    Raises:
        DataError: It is no such file, belongs to another arena, or was changed.
        DiskError: The votes cannot be kept.
    """
    data = _data(path)
    ballot, where = data.get("ballot"), str(path)
    if not isinstance(ballot, str) or arena.note(f"{_NOTE}{ballot[:80]}") is None:
        raise DataError(
            "these votes are of another arena",
            where=where,
            fix=f"{arena.path} has sent out no such page; name the right one with --votes.",
        )
    rater = _rater(data, where)
    found = _votes(arena, ballot, data.get("votes"), where)
    outcomes = [
        arena.cast(series_of(ballot), rater, position, 0, choice) for position, choice in sorted(found.items())
    ]
    return Read(rater, outcomes.count("new"), outcomes.count("same"), outcomes.count("other"))


def _data(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError("this is too large for a file of votes", where=str(path))
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise DataError("this is no JSON", where=str(path), fix="Name the file that the page saved.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DataError(
            f'this is no file of votes (its "format" is not "{FORMAT}")',
            where=str(path),
            fix="Name the file that the page saved.",
        )
    return data


def _rater(data: Mapping[str, Any], where: str) -> str:
    name = data.get("rater")
    try:
        return rater_name(name if isinstance(name, str) else "")
    except ValueError as error:
        raise DataError(f"the rater's name cannot be used: {error}", where=where) from error


def _choice(row: object) -> Choice | None:
    for choice in CHOICES:
        if isinstance(row, dict) and row.get("choice") == choice:
            return choice
    return None


def _votes(arena: Arena, ballot: str, rows: object, where: str) -> dict[int, Choice]:
    if not isinstance(rows, list):
        raise DataError('it holds no list of "votes"', where=where)
    total, contest = len(arena.showings(series_of(ballot))), arena.contest
    found: dict[int, Choice] = {}
    for number, row in enumerate(rows, 1):
        position = row.get("pair") if isinstance(row, dict) else None
        choice = _choice(row)
        if type(position) is not int or not 0 <= position < total or choice is None:
            raise DataError(f"vote {number} names no pair or no choice of this arena", where=where)
        code = row.get("code")
        genuine = code_of(contest, ballot, position, choice)
        if not isinstance(code, str) or not hmac.compare_digest(code.encode(), genuine.encode()):
            raise DataError(
                f"vote {number} is not as the page gave it: its code does not fit its choice",
                where=where,
                fix="Ask for the file as the page saved it. None of its votes was taken.",
            )
        if position in found:
            raise DataError(f"vote {number} is a second one on the same pair", where=where)
        found[position] = choice
    return found
