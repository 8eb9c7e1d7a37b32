"""The blocks of a packed row."""

from __future__ import annotations

import pytest

from penchant.batching.attention_plan import Block, blocks, query_rows, rows_of, sent_to
from penchant.batching.pair_batch import Segment

SEGMENTS = (Segment(0, 3, (2, 4)), Segment(9, 1, (0, 2, 3)))


def test_a_response_is_a_block_that_looks_back_to_its_prefix() -> None:
    """The first response holds the prefix among its own rows; what feeds no token of its own is no block."""
    assert blocks(SEGMENTS) == (
        Block(query=(0, 5), prefix=(0, 0), own=(0, 5)),
        Block(query=(5, 9), prefix=(0, 3), own=(5, 9)),
        Block(query=(9, 10), prefix=(9, 9), own=(9, 10)),
        Block(query=(10, 12), prefix=(9, 10), own=(10, 12)),
        Block(query=(12, 15), prefix=(9, 10), own=(12, 15)),
    )


def test_a_block_knows_its_numbers_of_queries_and_keys() -> None:
    pruned = blocks(SEGMENTS, (2, 9))
    assert [(block.num_queries, block.num_keys) for block in pruned] == [(3, 5), (4, 7), (1, 1), (2, 3), (3, 4)]


def test_pruned_rows_are_keys_only() -> None:
    """From the prompt's last token on in the first group; in the second only the last response's second token."""
    pruned = blocks(SEGMENTS, (2, 13))
    assert pruned == (
        Block(query=(2, 5), prefix=(0, 0), own=(0, 5)),
        Block(query=(5, 9), prefix=(0, 3), own=(5, 9)),
        Block(query=(13, 15), prefix=(9, 10), own=(12, 15)),
    )
    assert query_rows(pruned).tolist() == [2, 3, 4, 5, 6, 7, 8, 13, 14]


def test_a_group_may_want_no_query_at_all() -> None:
    assert blocks(SEGMENTS, (9, 15)) == ()
    assert query_rows(()).tolist() == []


@pytest.mark.parametrize("first", [(-1, 9), (10, 9), (0, 8), (0, 16)])
def test_a_first_row_outside_its_group_is_refused(first: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="outside the group"):
        blocks(SEGMENTS, first)


@pytest.mark.parametrize("first", [(0,), (0, 9, 15)])
def test_there_is_one_first_row_a_group(first: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="argument"):
        blocks(SEGMENTS, first)


def test_rows_follow_the_order_of_the_ranges() -> None:
    assert rows_of([(5, 7), (2, 2), (0, 3)]).tolist() == [5, 6, 0, 1, 2]


def test_a_tensor_is_sent_to_a_device() -> None:
    assert sent_to(rows_of([(0, 3)]), "meta").device.type == "meta"
