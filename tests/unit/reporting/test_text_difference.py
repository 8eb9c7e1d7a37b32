"""Marked differences: what stands on both sides is shared, and no character is lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penchant.reporting.text_difference import MOST_COMPARED, Piece, text_differences

WORDY = st.lists(st.sampled_from(["a", "b", "Paris", ".", " ", "\n", "日本", "é"])).map("".join)


def test_a_changed_word_is_marked_on_both_sides() -> None:
    one, other = text_differences("It is in Paris, France.", "It is in Rome, France.")
    assert one == (Piece("It is in ", False), Piece("Paris", True), Piece(", France.", False))
    assert other == (Piece("It is in ", False), Piece("Rome", True), Piece(", France.", False))


def test_a_space_between_other_words_is_no_common_ground() -> None:
    assert text_differences("red fox", "blue whale") == ((Piece("red fox", True),), (Piece("blue whale", True),))


def test_long_texts_are_compared_at_their_ends_only() -> None:
    words = [f"w{n}" for n in range(int(MOST_COMPARED**0.5))]
    changed = ["x", *words[1:-1], "x"]
    one, other = text_differences(*(" ".join(["start", *some, "end"]) for some in (words, changed)))
    assert one == (Piece("start ", False), Piece(" ".join(words), True), Piece(" end", False))
    assert [piece.own for piece in other] == [False, True, False]


@given(WORDY, WORDY)
def test_pieces_are_the_texts_and_shared_ones_are_equal(one: str, other: str) -> None:
    sides = text_differences(one, other)
    assert ["".join(piece.text for piece in side) for side in sides] == [one, other]
    shared = ["".join(piece.text for piece in side if not piece.own) for side in sides]
    assert shared[0] == shared[1]
    assert all(before.own != after.own for side in sides for before, after in pairwise(side))


@given(WORDY)
def test_a_text_shares_all_of_itself(text: str) -> None:
    assert not any(piece.own for side in text_differences(text, text) for piece in side)
