"""Both layouts, token by token, against tables written by hand."""

from __future__ import annotations

import pytest
import torch

from penchant.batching.pair_batch import (
    Group,
    Segment,
    common_prefix_length,
    pack_groups,
    pad_groups,
    pair_group,
)
from penchant.types import TokenizedPair

PAD = 0
# Responses that share their first token 5, and a group whose responses differ at once.
FIRST = Group((3, 4), ((5, 6, 7), (5, 8)))
SECOND = Group((9,), ((10,), (11, 12)))


def test_the_packed_row_by_hand() -> None:
    """Group one: prefix 3 4 5 once, then 6, then nothing; group two: prefix 9, nothing, then 11.

    A response's last token is never fed. The shared opening token 5 is scored for both responses, from the
    same output of token 4.
    """
    batch = pack_groups([FIRST, SECOND])
    assert batch.input_ids.tolist() == [[3, 4, 5, 6, 9, 11]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.attention_mask is None
    assert batch.segments == (Segment(0, 3, (1, 0)), Segment(4, 1, (0, 1)))
    assert batch.target_ids.tolist() == [5, 6, 7, 5, 8, 10, 11, 12]
    assert batch.predict_index.tolist() == [1, 2, 3, 1, 2, 4, 4, 5]
    assert batch.sequence_index.tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert (batch.num_sequences, batch.num_tokens) == (4, 6)


def test_the_padded_rows_by_hand() -> None:
    """Four rows of width four, padded at the right."""
    batch = pad_groups([FIRST, SECOND], PAD)
    assert batch.input_ids.tolist() == [[3, 4, 5, 6], [3, 4, 5, 0], [9, 0, 0, 0], [9, 11, 0, 0]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3]] * 4
    assert batch.segments is None
    assert batch.target_ids.tolist() == [5, 6, 7, 5, 8, 10, 11, 12]
    assert batch.predict_index.tolist() == [1, 2, 3, 5, 6, 8, 12, 13]
    assert batch.sequence_index.tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert (batch.num_sequences, batch.num_tokens) == (4, 10)


def test_padding_with_a_token_that_occurs_stays_masked() -> None:
    """A real token equal to the pad token keeps its mask."""
    batch = pad_groups([Group((7, 7), ((7, 7), (7,)))], pad_id=7)
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("responses", [((5,), (6,)), ((5,), (5,)), ((5,), (5, 6)), ((5, 6), (5, 6, 7))])
def test_responses_of_one_token_and_nested_ones(responses: tuple[tuple[int, ...], ...]) -> None:
    """Every response token is scored once, even where nothing of a response is fed of its own."""
    group = Group((3,), responses)
    batch = pack_groups([group])
    assert batch.target_ids.tolist() == [token for response in responses for token in response]
    assert batch.num_tokens == group.num_packed_tokens == max(len(r) for r in responses)
    fed = batch.input_ids[0, batch.predict_index].tolist()
    assert fed == [token for response in responses for token in (3, *response[:-1])]


def test_three_responses_and_one() -> None:
    """The same layout serves any number of responses."""
    three = pack_groups([Group((3, 4), ((5, 6), (5, 7, 8), (9, 6)))])
    assert three.input_ids.tolist() == [[3, 4, 5, 5, 7, 9]]
    assert three.position_ids.tolist() == [[0, 1, 2, 2, 3, 2]]
    assert three.segments == (Segment(0, 2, (1, 2, 1)),)
    one = pack_groups([Group((3,), ((5, 6),))])
    assert one.input_ids.tolist() == [[3, 5]]
    assert one.segments == (Segment(0, 2, (0,)),)


def test_a_pair_is_chosen_then_rejected() -> None:
    """Sequence 2i is the chosen response of pair i."""
    pair = TokenizedPair("a", (1, 2), (3, 4), (5,))
    assert pair_group(pair) == Group((1, 2), ((3, 4), (5,)))
    assert pair.num_tokens == 5


def test_common_prefix_length() -> None:
    """Of equal, nested, disjoint and empty sequences."""
    assert common_prefix_length([(1, 2, 3), (1, 2, 4)]) == 2
    assert common_prefix_length([(1, 2), (1, 2, 4)]) == 2
    assert common_prefix_length([(1, 2)]) == 2
    assert common_prefix_length([(1,), (2,)]) == 0
    assert common_prefix_length([(), (2,)]) == 0


def test_moving_a_batch_moves_every_tensor() -> None:
    """`to` keeps the layout and forgets no field; the meta device stands in for an accelerator."""
    for batch in (pack_groups([FIRST]), pad_groups([FIRST], PAD)):
        moved = batch.to("meta")
        for name, value in vars(moved).items():
            if isinstance(value, torch.Tensor):
                assert value.device.type == "meta", name
            else:
                assert value == getattr(batch, name), name


MASKED = Group((3, 4), ((5, 6, 7), (5, 8)), ((True, False, True), None))


def test_a_mask_leaves_tokens_out_of_what_is_scored_and_not_out_of_what_is_fed() -> None:
    """Of the first response only 5 and 7 are scored; the row is the same."""
    plain, masked = pack_groups([FIRST, SECOND]), pack_groups([MASKED, SECOND])
    assert torch.equal(masked.input_ids, plain.input_ids)
    assert masked.segments == plain.segments
    assert masked.target_ids.tolist() == [5, 7, 5, 8, 10, 11, 12]
    assert masked.predict_index.tolist() == [1, 3, 1, 2, 4, 4, 5]
    assert masked.sequence_index.tolist() == [0, 0, 1, 1, 2, 3, 3]
    padded = pad_groups([MASKED, SECOND], PAD)
    assert torch.equal(padded.input_ids, pad_groups([FIRST, SECOND], PAD).input_ids)
    assert padded.target_ids.tolist() == [5, 7, 5, 8, 10, 11, 12]
    assert padded.predict_index.tolist() == [1, 3, 5, 6, 8, 12, 13]
    assert padded.sequence_index.tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_a_response_of_which_nothing_is_scored_is_still_a_sequence() -> None:
    batch = pack_groups([Group((3,), ((5, 6), (7, 8)), ((False, False), None))])
    assert batch.num_sequences == 2
    assert batch.sequence_index.tolist() == [1, 1]
    assert batch.target_ids.tolist() == [7, 8]


def test_a_pair_brings_its_masks_along_and_swaps_them() -> None:
    pair = TokenizedPair("a", (1, 2), (3, 4), (5,), "c", chosen_scored=(False, True), rejected_complete=False)
    assert pair_group(pair) == Group((1, 2), ((3, 4), (5,)), ((False, True), None))
    assert pair.num_scored == (1, 1)
    swapped = pair.swapped()
    assert pair_group(swapped) == Group((1, 2), ((5,), (3, 4)), (None, (False, True)))
    assert (swapped.id, swapped.cluster, swapped.chosen_complete, swapped.rejected_complete) == (
        "a",
        "c",
        False,
        True,
    )
    assert swapped.swapped() == pair


def test_a_mask_of_another_length_is_refused() -> None:
    """Never silently shorter than its response."""
    with pytest.raises(ValueError, match="mask"):
        pack_groups([Group((3,), ((5, 6), (7, 8)), ((True,), None))])


EXAMPLE = Group((3, 4), ((5, 6, 7), ()))


def test_a_response_that_is_not_there_costs_no_row_and_no_token() -> None:
    """Packed and padded: the row of the first response alone, and a second sequence without a token."""
    packed = pack_groups([EXAMPLE, SECOND])
    assert packed.input_ids.tolist() == [[3, 4, 5, 6, 9, 11]]
    assert packed.segments == (Segment(0, 4, (0, 0)), Segment(4, 1, (0, 1)))
    assert packed.predict_index.tolist() == [1, 2, 3, 4, 4, 5]
    padded = pad_groups([EXAMPLE, SECOND], PAD)
    assert padded.input_ids.tolist() == [[3, 4, 5, 6], [9, 0, 0, 0], [9, 11, 0, 0]]
    assert padded.predict_index.tolist() == [1, 2, 3, 4, 8, 9]
    for batch in (packed, padded):
        assert batch.target_ids.tolist() == [5, 6, 7, 10, 11, 12]
        assert batch.sequence_index.tolist() == [0, 0, 0, 2, 3, 3]
        assert batch.pairs.tolist() == [[0, 1], [2, 3]]
        assert [size.rows for size in batch.sizes] == [3, 3]
    assert (packed.num_tokens, padded.num_tokens) == (6, 7)
    assert EXAMPLE.num_packed_tokens == 4


def test_an_example_of_one_token_is_its_prompt() -> None:
    one = Group((3, 4), ((5,), ()))
    assert pack_groups([one]).input_ids.tolist() == pad_groups([one], PAD).input_ids.tolist() == [[3, 4]]
    assert pack_groups([one, one, EXAMPLE]).input_ids.tolist() == [[3, 4, 5, 6]]  # a prompt is shared as ever
