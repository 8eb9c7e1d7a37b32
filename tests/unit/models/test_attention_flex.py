"""FlexAttention over packed rows: its rule and its tiles. Its backward exists on CUDA only, see tests/gpu."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.models.dense_attention import Row, dense_attention, may_see, random_inputs, rows, wanted_rows
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.functional import pad

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Segment
from penchant.models.attention_flex import FlexPlan, flex_attention, flex_plan

# uncompiled, which is right and slow, it says that compiled would be faster
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

# full tiles, tiles seen in part, tiles that nobody sees; queries that begin in the middle of a tile
LONG: list[Row] = [
    ((Segment(0, 300, (140, 200)), Segment(640, 5, (7, 0, 130))), None),
    ((Segment(0, 300, (140, 200)), Segment(640, 5, (7, 0, 130))), (299, 644)),
    ((Segment(0, 256, (128, 128)),), None),
]


def plan_of(row: Row) -> FlexPlan:
    segments, first_query = row
    return flex_plan(blocks(segments, first_query), sum(segment.length for segment in segments))


@settings(max_examples=40)
@given(rows(), st.sampled_from([(2, 2), (4, 2), (3, 1)]))
def test_it_is_the_masked_softmax(row: Row, heads: tuple[int, int]) -> None:
    """In float64, pruned or not, with shared heads or not."""
    query, key, value = random_inputs(row, *heads, 4, torch.float64)
    found = flex_attention(query, key, value, plan_of(row), 0.7)
    expected = dense_attention(query, key, value, may_see(row[0])[wanted_rows(*row)], 0.7)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("row", LONG)
def test_it_is_the_masked_softmax_over_many_tiles(row: Row) -> None:
    query, key, value = random_inputs(row, 2, 1, 4, torch.float64)
    found = flex_attention(query, key, value, plan_of(row), 0.5)
    expected = dense_attention(query, key, value, may_see(row[0])[wanted_rows(*row)], 0.5)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("row", LONG)
def test_its_tiles_are_those_that_torch_finds_from_the_whole_mask(row: Row) -> None:
    """`create_block_mask` looks at every pair of a query and a key; the plan only at ranges."""
    plan = plan_of(row)
    slow = create_block_mask(plan.mask.mask_mod, None, None, plan.padded_queries, plan.padded_tokens, device="cpu")
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert getattr(plan.mask, name).tolist() == getattr(slow, name).tolist()
    for numbers, indices in (
        ("kv_num_blocks", "kv_indices"),
        ("full_kv_num_blocks", "full_kv_indices"),
        ("q_num_blocks", "q_indices"),
        ("full_q_num_blocks", "full_q_indices"),
    ):
        chosen = getattr(slow, numbers)[0, 0].tolist()
        for tile, number in enumerate(chosen):
            ours, theirs = (getattr(mask, indices)[0, 0, tile, :number].tolist() for mask in (plan.mask, slow))
            assert ours == theirs
    assert plan.mask.shape == slow.shape


@pytest.mark.parametrize("row", LONG)
def test_its_tiles_are_those_of_the_mask_token_by_token(row: Row) -> None:
    """Full where every pair may be seen, in part where some may, left out where none may."""
    plan = plan_of(row)
    seen = may_see(row[0])[wanted_rows(*row)]
    whole = torch.zeros(plan.padded_queries, plan.padded_tokens, dtype=torch.bool)
    whole[len(seen) :, 0] = True  # what fills the last tile of queries sees the first token
    whole[: len(seen), : seen.shape[1]] = seen
    pairs = whole.view(plan.padded_queries // 128, 128, plan.padded_tokens // 128, 128).sum((1, 3))
    assert plan.mask.to_dense()[0, 0].tolist() == (pairs > 0).int().tolist()
    assert plan.mask.full_kv_num_blocks is not None
    assert plan.mask.full_kv_num_blocks[0, 0].tolist() == (pairs == 128 * 128).sum(1).tolist()


def test_lengths_are_rounded_up_to_whole_tiles() -> None:
    """So that lengths that differ a little share a compiled kernel; a whole tile more is never added."""
    plan = plan_of((LONG[2][0], (255,)))
    assert (plan.padded_queries, plan.padded_tokens) == (384, 512)
    assert plan_of(LONG[2]).padded_queries == 512


def test_it_computes_in_the_type_of_the_values() -> None:
    """FlexAttention takes no mixture; queries come back in the type that they had."""
    row = LONG[2]
    query, key, value = random_inputs(row, 2, 2, 16, torch.float32)
    found = flex_attention(query, key, value.bfloat16(), plan_of(row), 0.25)
    query, key, value = (tensor.bfloat16().float() for tensor in (query, key, value))
    assert found.dtype == torch.float32
    assert torch.allclose(found, dense_attention(query, key, value, may_see(row[0]), 0.25), atol=0.03)


def test_a_row_without_a_query_has_no_plan() -> None:
    with pytest.raises(ValueError, match="without a query"):
        flex_plan((), 4)


def test_padding_of_the_inputs_is_never_seen() -> None:
    """Whatever stands behind the row's end, here large numbers, stays out of every output."""
    row = LONG[0]
    plan = plan_of(row)
    query, key, value = random_inputs(row, 1, 1, 4, torch.float64)
    found = flex_attention(query, key, value, plan, 0.5)
    key, value = (
        pad(tensor, (0, 0, 0, plan.padded_tokens - tensor.shape[2]), value=1e6) for tensor in (key, value)
    )
    assert torch.equal(flex_attention(query, key, value, plan, 0.5), found)
