"""Strings that end an answer, wherever tokens part."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import END, loaded, tiny_family

from penchant.errors import UsageError
from penchant.generation.generate import generate
from penchant.generation.stop_strings import StopStrings, cut_at
from penchant.types import Sampling

PIECES = ["a", "b", "ab", "", "ba ", "\N{SNOWMAN}", " c"]  # "" is what a special token is decoded to


def decode(ids: Sequence[int]) -> str:
    """Like a SentencePiece tokenizer, without the space before the first word."""
    return "".join(PIECES[one] for one in ids).removeprefix(" ")


@given(
    st.lists(st.integers(0, len(PIECES) - 1), max_size=40),
    st.lists(st.sampled_from(["ab", "ba", "aab c", "\N{SNOWMAN}", " c", "bbbb"]), min_size=1, max_size=3),
)
def test_the_token_that_completes_a_stop_string_is_found_and_the_text_ends_before_the_first(
    ids: list[int], strings: list[str]
) -> None:
    """Against a search of the whole text after every token."""
    stops = StopStrings(tuple(strings), decode)
    for length in range(1, len(ids) + 1):
        text = decode(ids[:length])
        there = [(text.find(one), one) for one in strings if one in text]
        found = stops.found(ids[:length])
        assert found == (min(there)[1] if there else "")
        if found:
            assert cut_at(text, found) == text[: min(there)[0]]
            break


def test_none_found_leaves_the_text() -> None:
    assert StopStrings((), decode).found([0, 1]) == ""
    assert cut_at("abc", "") == "abc"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UsageError, match="empty stop string"):
        StopStrings(("a", ""), decode)


def test_answers_end_at_stop_strings_across_tokens() -> None:
    """The same draws with and without: each text is the longer one up to the string, and no token more is made."""
    model = loaded(tiny_family("Llama", seed=1))
    prompts = [model.chat.tokenizer(text).input_ids for text in ("Why?", "Where does it go?", "a")]
    options = {"max_new_tokens": 40, "samples": 4, "sampling": Sampling(temperature=1.0, seed=2)}
    free = [one for row in generate(model, prompts, **options) for one in row]
    texts = [model.chat.decode(one.ids) for one in free]
    [stop, *_] = re.findall(r"[!-~]{2}", texts[0][5:])  # each token is one byte, so this spans two
    bound = [one for row in generate(model, prompts, stop=[stop, "never"], batch_rows=5, **options) for one in row]
    for before, after, text in zip(free, bound, texts, strict=True):
        if stop in text:
            assert (after.finished, after.stop) == (True, stop)
            assert cut_at(model.chat.decode(after.ids), after.stop) == text.partition(stop)[0]
            assert after.ids == before.ids[: len(after.ids)]
            assert stop not in model.chat.decode(after.ids[:-1])
        else:
            assert after == before
    assert any(one.stop for one in bound)
    assert not all(one.stop for one in bound)
    assert END not in bound[0].ids
