"""Single responses with a label, made of pairs: nothing lost, each with a response to another prompt beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tests.tiny import random_pairs

from penchant.tokens.unpaired import labelled_responses
from penchant.types import TokenizedPair

PAIRS = random_pairs(9, seed=1)


def test_a_pair_gives_a_desirable_and_an_undesirable_response() -> None:
    """In the order of the pairs, chosen first; weights stay, margins have no meaning any more."""
    pair = replace(PAIRS[0], weight=2.0, margin=1.0, chosen_complete=False)
    examples = labelled_responses([pair, *PAIRS[1:]], max_tokens=99, seed=0)
    assert len(examples) == 2 * len(PAIRS)
    first, second = examples[:2]
    assert (first.chosen_ids, first.desirable, first.chosen_complete) == (pair.chosen_ids, True, False)
    assert (second.chosen_ids, second.desirable, second.chosen_complete) == (pair.rejected_ids, False, True)
    assert (first.weight, first.margin) == (2.0, None)
    assert len({example.id for example in examples}) == len(examples)


def test_every_response_serves_once_beside_another_prompt() -> None:
    """The second side is a permutation of the responses, none beside its own prompt."""
    examples = labelled_responses(PAIRS, max_tokens=999, seed=0)
    assert Counter(one.rejected_ids for one in examples) == Counter(one.chosen_ids for one in examples)
    owners = {one.chosen_ids: one.prompt_ids for one in examples}
    assert all(owners[one.rejected_ids] != one.prompt_ids for one in examples)
    other = labelled_responses(PAIRS, max_tokens=999, seed=1)
    assert [one.rejected_ids for one in other] != [one.rejected_ids for one in examples]


def test_what_is_lent_is_cut_to_fit() -> None:
    """A response to another prompt never makes an example longer than allowed, and a cut one has no end."""
    examples = labelled_responses(PAIRS, max_tokens=12, seed=0)
    for example in examples:
        assert 1 <= len(example.rejected_ids) <= max(1, 12 - len(example.prompt_ids))
    cut = [one for one in examples if len(one.rejected_ids) < 2]
    assert cut
    assert not any(one.rejected_complete for one in cut if one.rejected_ids[-1:] != (2,))


def test_labelled_data_stays_as_it_is() -> None:
    """What has a label already is one example, whatever its label."""
    data = [
        TokenizedPair(str(place), (5, place + 6), (7, place + 8), (), desirable=place % 2 == 0)
        for place in range(4)
    ]
    examples = labelled_responses(data, max_tokens=99, seed=0)
    assert [one.chosen_ids for one in examples] == [one.chosen_ids for one in data]
    assert [one.desirable for one in examples] == [True, False, True, False]


@pytest.mark.parametrize("count", [1, 2])
def test_a_single_prompt_lends_to_itself(count: int) -> None:
    """Where there is no other prompt the estimate is made of the same prompt's responses."""
    pair = TokenizedPair("a", (5,), (6,), (7, 8))
    examples = labelled_responses([pair] * count, max_tokens=99, seed=0)
    assert len(examples) == 2 * count
    assert all(example.rejected_ids for example in examples)
