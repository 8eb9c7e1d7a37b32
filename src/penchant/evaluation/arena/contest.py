"""What an arena is about: prompts with two answers each, and the order in which a rater meets them.

Everything that a rater sees is a function of the contest and of the series (a rater's own, or that of a page which
was sent out): the order, the sides, and which prompts come a second time with their sides swapped. The draws are
keyed by a secret that stays in the arena's file, so nobody can work out from a page which side is whose.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from penchant.types import Role, Turn

MOST_REPEATS = 0.5
REPEATS = 0.125  # unless asked for otherwise
FEWEST_APART = 3  # a repeat that follows sooner is answered from memory
_USUALLY_APART = 12


@dataclass(frozen=True)
class Said:
    """What a model said to a prompt.

    Attributes:
        texts: One answer a turn of the user.
        finished: Whether it ended the last one by itself, rather than being cut off.
    """

    texts: tuple[str, ...]
    finished: bool = True


@dataclass(frozen=True)
class Entry:
    """A prompt with the answers of both models.

    Attributes:
        id: Unique in the contest; that of the file of answers.
        turns: The conversation up to the first answer.
        later: What the user says after it, one text a turn.
        first: What the first model said.
        second: What the second one said.
    """

    id: str
    turns: tuple[Turn, ...]
    first: Said
    second: Said
    later: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contest:
    """Two models' answers to the same prompts.

    Attributes:
        names: What the two models are called; never shown to a rater who has not voted yet.
        entries: The prompts, at least one.
        repeats: Share of the prompts that come again, in [0, `MOST_REPEATS`].
        secret: Keys all draws.
        origin: Where the answers come from, plain data.
    """

    names: tuple[str, str]
    entries: tuple[Entry, ...]
    repeats: float = REPEATS
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    origin: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, see `contest_of`."""
        return asdict(self)


@dataclass(frozen=True)
class Showing:
    """One time that a pair is shown.

    Attributes:
        position: From 0.
        entry: Which entry of the contest, from 0.
        swapped: Whether the second model's answer is on the left.
        repeat: Whether the rater has seen this pair before, the other way round.
    """

    position: int
    entry: int
    swapped: bool
    repeat: bool


def contest_of(data: dict[str, Any]) -> Contest:
    """Return the contest that `Contest.as_json` made plain.

    Raises:
        ValueError, TypeError, KeyError: It is no such data.
    """
    first, second = data["names"]
    entries = tuple(
        Entry(
            str(one["id"]),
            tuple(Turn(_role(turn["role"]), str(turn["content"])) for turn in one["turns"]),
            _said(one["first"]),
            _said(one["second"]),
            tuple(map(str, one["later"])),
        )
        for one in data["entries"]
    )
    return Contest(
        (str(first), str(second)), entries, float(data["repeats"]), str(data["secret"]), dict(data["origin"])
    )


def showings(contest: Contest, series: str) -> tuple[Showing, ...]:
    """Return what a series shows, in order: every entry once, and a share of them again with the sides swapped.

    Args:
        contest: What the arena is about.
        series: Whose showings; each series has an order and sides of its own.
    """
    order = sorted(range(len(contest.entries)), key=lambda place: _draw(contest, series, "order", place))
    sides = [_draw(contest, series, "side", place)[0] % 2 == 1 for place in range(len(contest.entries))]
    shown = [(place, sides[place], False) for place in order]
    for after, place in _repeats(contest, series, order):
        shown.insert(after, (place, not sides[place], True))
    return tuple(Showing(position, *one) for position, one in enumerate(shown))


def _repeats(contest: Contest, series: str, order: Sequence[int]) -> list[tuple[int, int]]:
    """Where to put which entries in again, the last place first, so that no insertion moves another."""
    count = len(order)
    apart = min(_USUALLY_APART, count // 3)
    wanted = round(contest.repeats * count)
    if apart < FEWEST_APART or not wanted:
        return []
    chance = random.Random(_draw(contest, series, "repeats", 0))
    found = []
    for first_shown in chance.sample(range(count - apart), min(wanted, count - apart)):
        gap = chance.randint(apart, 2 * apart)
        found.append((min(count, first_shown + 1 + gap), order[first_shown]))
    return sorted(found, reverse=True)


def _draw(contest: Contest, series: str, purpose: str, place: int) -> bytes:
    entry = contest.entries[place].id
    message = "\0".join((series, purpose, entry)).encode("utf-8", "surrogatepass")
    return hmac.new(contest.secret.encode(), message, hashlib.sha256).digest()


def _said(data: dict[str, Any]) -> Said:
    return Said(tuple(map(str, data["texts"])), bool(data["finished"]))


def _role(word: object) -> Role:
    if word not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"{word!r} is no role")
    return word
