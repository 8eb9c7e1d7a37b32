"""The attention over a packed row, against a softmax written out with its whole mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from penchant.batching.pair_batch import Segment
from penchant.models.attention import prefix_attention

SEGMENTS = (Segment(0, 3, (2, 4)), Segment(9, 1, (0, 2, 3)), Segment(15, 4, (0,)))
TOKENS = 19


def may_see() -> Tensor:
    """Token by token: the prefix and the own rest up to itself, nothing of a twin or another group."""
    seen = torch.zeros(TOKENS, TOKENS, dtype=torch.bool)
    for segment in SEGMENTS:
        prefix = list(range(segment.start, segment.start + segment.prefix))
        cursor = segment.start + segment.prefix
        for rest in segment.rests:
            sequence = prefix + list(range(cursor, cursor + rest))
            for place, token in enumerate(sequence):
                seen[token, sequence[: place + 1]] = True
            cursor += rest
    return seen


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("scaling", [None, 0.9])
def test_it_is_the_masked_softmax(key_heads: int, scaling: float | None) -> None:
    """Four query heads over one, two or four key heads, with the default and with an unusual scale."""
    torch.manual_seed(0)
    query = torch.randn(1, 4, TOKENS, 8)
    key, value = torch.randn(2, 1, key_heads, TOKENS, 8)
    found, weights = prefix_attention(None, query, key, value, None, scaling=scaling, prefix_segments=SEGMENTS)
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key.repeat_interleave(4 // key_heads, 1))
    scores = (scores * (8**-0.5 if scaling is None else scaling)).masked_fill(~may_see(), -torch.inf)
    mixed = torch.softmax(scores, -1) @ value.repeat_interleave(4 // key_heads, 1)
    assert weights is None
    assert found.shape == (1, TOKENS, 4, 8)
    assert torch.allclose(found, mixed.transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_it_refuses_a_mask_and_a_row_without_segments() -> None:
    """Called for anything but a packed row it would be silently wrong."""
    query, key, value = torch.randn(3, 1, 2, 4, 8)
    with pytest.raises(RuntimeError, match="segments of a packed row"):
        prefix_attention(None, query, key, value, None)
    with pytest.raises(RuntimeError, match="segments of a packed row"):
        prefix_attention(None, query, key, value, torch.ones(1), prefix_segments=(Segment(0, 4, (0,)),))
