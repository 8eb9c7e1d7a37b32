"""Which words two texts do not share, so that a page can mark them: for every place that shows two answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

MOST_COMPARED = 1_000_000  # words of one times words of the other: about a tenth of a second
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


class Piece(NamedTuple):
    """A stretch of a text.

    Attributes:
        text: As it stands there.
        own: Whether the other text lacks it.
    """

    text: str
    own: bool


def text_differences(one: str, other: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Return both texts in pieces, each either shared or its own, by words.

    The pieces of a side, put together, are its text; neighbours are never of one kind. Words that both texts begin
    or end with are shared. Between these the longest runs of equal words are found (Ratcliff, Obershelp), unless
    the texts are so long that a page would wait for it: then all of it is told as different.
    """
    words, others = _WORDS.findall(one), _WORDS.findall(other)
    ahead = _alike(words, others)
    behind = _alike(words[ahead:][::-1], others[ahead:][::-1])
    middle, other_middle = words[ahead : len(words) - behind], others[ahead : len(others) - behind]
    shared = _shared(middle, other_middle)
    return (
        _pieces(words, ahead, behind, [(block.a, block.size) for block in shared]),
        _pieces(others, ahead, behind, [(block.b, block.size) for block in shared]),
    )


def _alike(words: Sequence[str], others: Sequence[str]) -> int:
    """How many words both begin with."""
    count = 0
    for word, other in zip(words, others, strict=False):
        if word != other:
            break
        count += 1
    return count


def _shared(words: Sequence[str], others: Sequence[str]) -> list[_Block]:
    if len(words) * len(others) > MOST_COMPARED:
        return []
    found = SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks()
    # a lone space between two different words is no common ground
    return [
        _Block(block.a, block.b, block.size)
        for block in found
        if any(not word.isspace() for word in words[block.a : block.a + block.size])
    ]


class _Block(NamedTuple):
    a: int
    b: int
    size: int


def _pieces(words: Sequence[str], ahead: int, behind: int, shared: Sequence[tuple[int, int]]) -> tuple[Piece, ...]:
    own = [ahead <= place < len(words) - behind for place in range(len(words))]
    for start, size in shared:
        own[ahead + start : ahead + start + size] = [False] * size
    pieces: list[Piece] = []
    for word, alone in zip(words, own, strict=True):
        if pieces and pieces[-1].own == alone:
            pieces[-1] = Piece(pieces[-1].text + word, alone)
        else:
            pieces.append(Piece(word, alone))
    return tuple(pieces)
