"""A pair as a rater is shown it, and the keys that raters press."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.evaluation.arena.contest import Contest, Entry, Said, Showing
from penchant.evaluation.arena.votes import Choice

KEYS: Mapping[Choice, tuple[str, str]] = {
    "left": ("1", "Answer 1"),
    "right": ("2", "Answer 2"),
    "tie": ("t", "Tie"),
    "bad": ("b", "Both bad"),
    "skip": ("s", "Skip"),
}
"""By choice the key, and what its button says."""


def shown_pair(contest: Contest, showing: Showing) -> dict[str, Any]:
    """Return what a page shows of a pair: `turns`, and `sides`, left and right.

    A side has `parts`, each what the user asked before it ("" at first) and the answer, and `finished`.
    """
    entry = contest.entries[showing.entry]
    sides = (entry.second, entry.first) if showing.swapped else (entry.first, entry.second)
    return {"turns": entry.turns, "sides": [_side(entry, side) for side in sides]}


def _side(entry: Entry, said: Said) -> dict[str, Any]:
    asked = ("", *entry.later)
    return {"parts": list(zip(asked, said.texts, strict=True)), "finished": said.finished}
