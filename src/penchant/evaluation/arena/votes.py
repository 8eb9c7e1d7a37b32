"""Votes, and what they say of the two models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Choice = Literal["left", "right", "tie", "bad", "skip"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "bad", "skip")
Verdict = Literal["first", "second", "tie", "bad"]
SCORES: Mapping[Verdict, float] = {"first": 1.0, "second": 0.0, "tie": 0.5, "bad": 0.5}
LONGEST_RATER = 40


@dataclass(frozen=True)
class Vote:
    """A vote that stands.

    Attributes:
        number: In the order in which votes came.
        series: Whose showings it belongs to, see `penchant.evaluation.arena.contest.showings`.
        rater: Who voted.
        position: Which showing.
        attempt: How many votes on this showing the rater took back before.
        entry: The entry's id.
        swapped: Whether the second model's answer was on the left.
        repeat: Whether the pair was shown again.
        choice: What was chosen.
        at: When, UTC, ISO 8601.
    """

    number: int
    series: str
    rater: str
    position: int
    attempt: int
    entry: str
    swapped: bool
    repeat: bool
    choice: Choice
    at: str

    @property
    def verdict(self) -> Verdict | None:
        """What it says of the models; None for a pair that was skipped."""
        if self.choice == "left":
            return "second" if self.swapped else "first"
        if self.choice == "right":
            return "first" if self.swapped else "second"
        return None if self.choice == "skip" else self.choice


def first_votes(votes: Iterable[Vote]) -> list[Vote]:
    """Return the votes that count: of each rater the first on an entry, repeats and skipped pairs left out."""
    found: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        if not vote.repeat and vote.verdict is not None:
            found.setdefault((vote.rater, vote.entry), vote)
    return list(found.values())


def scores_by_prompt(counted: Iterable[Vote]) -> list[float]:
    """Return the first model's score on each prompt by the vote that came first, in the order of the votes."""
    earliest: dict[str, float] = {}
    for vote in counted:
        if vote.verdict is not None:
            earliest.setdefault(vote.entry, SCORES[vote.verdict])
    return list(earliest.values())


def rater_name(text: str) -> str:
    """Return a rater's name as it is kept: outer and repeated white space taken out, "rater" where none is left.

    Raises:
        ValueError: It is longer than `LONGEST_RATER` characters, or holds a character that cannot be shown.
    """
    name = " ".join(text.split()) or "rater"
    if len(name) > LONGEST_RATER:
        raise ValueError(f"a name has at most {LONGEST_RATER} characters")
    if not name.isprintable():
        raise ValueError("a name has no characters that cannot be seen")
    return name
