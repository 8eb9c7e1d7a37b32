"""Arenas for tests: prompts with two answers that can be told apart, and raters that vote by a rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from penchant.evaluation.arena.contest import Contest, Entry, Said, showings
from penchant.evaluation.arena.vote_store import Arena, create_arena
from penchant.evaluation.arena.votes import Choice, Vote
from penchant.types import Turn
from penchant.web.arena import LIVE

SECRET = "a secret of the tests"


def contest(prompts: int = 24, *, swapped: bool = False, repeats: float = 0.125) -> Contest:
    """Prompts whose first answers are "sunny" and whose second ones "rainy", or the other way round."""
    words = ("rainy", "sunny") if swapped else ("sunny", "rainy")
    entries = [
        Entry(
            f"q{number}",
            (Turn("user", f"Question {number}?"),),
            Said((f"{words[0]} answer {number}",)),
            Said((f"{words[1]} answer {number}",)),
        )
        for number in range(prompts)
    ]
    names = ("base", "trained") if swapped else ("trained", "base")
    return Contest(names, tuple(entries), repeats, SECRET)


def made(folder: Path, found: Contest | None = None) -> Path:
    """Write an arena's file."""
    path = folder / "arena.sqlite"
    create_arena(path, found or contest())
    return path


def vote_through(arena: Arena, rater: str, choose: Callable[[int, bool], Choice]) -> None:
    """Vote on every showing; `choose` is told the entry and whether the second model's answer is on the left."""
    series = LIVE + rater
    while (standing := arena.standing(series, rater)).showing is not None:
        showing = standing.showing
        choice = choose(showing.entry, showing.swapped)
        assert arena.cast(series, rater, showing.position, standing.attempt, choice) == "new"


def voted(found: Contest, *raters: tuple[str, Callable[[int, bool], Choice]]) -> list[Vote]:
    """The votes of raters who see all showings, one after the other, without a file."""
    votes: list[Vote] = []
    for rater, choose in raters:
        series = LIVE + rater
        for one in showings(found, series):
            choice = choose(one.entry, one.swapped)
            about = (found.entries[one.entry].id, one.swapped, one.repeat, choice, "2026-11-22T12:00:00+00:00")
            votes.append(Vote(len(votes) + 1, series, rater, one.position, 0, *about))
    return votes


def likes_first(entry: int, swapped: bool) -> Choice:
    return "right" if swapped else "left"


def likes_left(entry: int, swapped: bool) -> Choice:
    return "left"
