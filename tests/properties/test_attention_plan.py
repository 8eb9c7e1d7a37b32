"""What holds of the blocks for every packed row."""

from __future__ import annotations

import torch
from hypothesis import given
from tests.unit.models.dense_attention import Row, may_see, rows, wanted_rows

from penchant.batching.attention_plan import blocks, query_rows, rows_of


@given(rows())
def test_the_queries_of_the_blocks_are_the_wanted_rows_in_order(row: Row) -> None:
    """Each once, none else, with nothing said about how many blocks there are."""
    assert query_rows(blocks(*row)).tolist() == wanted_rows(*row)


@given(rows())
def test_a_query_sees_its_prefix_and_itself_and_nothing_else(row: Row) -> None:
    """The rule of the blocks, query i is key keys - queries + i, is what each token may see one by one."""
    segments, first_query = row
    expected = may_see(segments)
    for block in blocks(segments, first_query):
        keys = rows_of([block.prefix, block.own])
        assert len(keys) == block.num_keys
        assert block.own[1] == block.query[1]
        for index, query in enumerate(range(*block.query)):
            seen = torch.zeros(len(expected), dtype=torch.bool)
            seen[keys[: block.num_keys - block.num_queries + index + 1]] = True
            assert torch.equal(seen, expected[query])


@given(rows())
def test_a_rule_for_all_rows_is_the_rule_for_none_pruned(row: Row) -> None:
    segments, _ = row
    assert blocks(segments) == blocks(segments, [segment.start for segment in segments])
