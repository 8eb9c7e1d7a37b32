"""The attention over a packed row, against a softmax written out with its whole mask."""

from __future__ import annotations

import pytest
import torch
from tests.unit.models.dense_attention import may_see
from torch import Tensor

import penchant.models.attention as module
from penchant.batching.attention_plan import blocks, query_rows
from penchant.batching.pair_batch import Segment

SEGMENTS = (Segment(0, 3, (2, 4)), Segment(9, 1, (0, 2, 3)), Segment(15, 4, (0,)))
TOKENS = 19


def attended(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, first: tuple[int, ...] | None = None
) -> Tensor:
    attend = module.sdpa_attention(blocks(SEGMENTS, first), "cpu")
    found, weights = module.prefix_attention(
        None, query, key, value, None, scaling=scaling, packed_attention=attend
    )
    assert weights is None
    return found


def masked_softmax(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    repeats = query.shape[1] // key.shape[1]
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key.repeat_interleave(repeats, 1))
    scores = (scores * (8**-0.5 if scaling is None else scaling)).masked_fill(~may_see(SEGMENTS), -torch.inf)
    return (torch.softmax(scores, -1) @ value.repeat_interleave(repeats, 1)).transpose(1, 2)


def inputs(key_heads: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    query = torch.randn(1, 4, TOKENS, 8, dtype=dtype)
    key, value = torch.randn(2, 1, key_heads, TOKENS, 8, dtype=dtype)
    return query.requires_grad_(), key.requires_grad_(), value.clone().detach().requires_grad_()


@pytest.mark.parametrize("own_kernel", [True, False])
@pytest.mark.parametrize("first", [None, (2, 9, 18), (4, 11, 19)])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("scaling", [None, 0.9])
def test_it_is_the_masked_softmax(
    monkeypatch: pytest.MonkeyPatch,
    scaling: float | None,
    key_heads: int,
    first: tuple[int, ...] | None,
    own_kernel: bool,
) -> None:
    """Values and gradients in float64: four query heads over one, two or four key heads, all queries or only
    those from some row of each group on, by the kernel called by name and by the one that torch differentiates."""
    if not own_kernel:
        monkeypatch.setattr(module, "_FLASH_ON_CPU", None)
    query, key, value = inputs(key_heads, torch.float64)
    rows = query_rows(blocks(SEGMENTS, first))
    assert (len(rows) == TOKENS) is (first is None)
    expected = masked_softmax(query, key, value, scaling)[:, rows]
    slopes = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (query, key, value), slopes)
    found = attended(query[:, :, rows], key, value, scaling, first)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    for one, other in zip(torch.autograd.grad(found, (query, key, value), slopes), wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


def test_groups_of_one_shape_share_their_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three equal groups and another one: two calls for each shape, and every value as if alone."""
    calls: list[tuple[int, ...]] = []
    kernel = module._FLASH_ON_CPU

    def counted(query: Tensor, *rest: object, **more: object) -> object:
        calls.append(tuple(query.shape))
        return kernel(query, *rest, **more)

    monkeypatch.setattr(module, "_FLASH_ON_CPU", counted)
    segments = (Segment(0, 2, (3, 2)), Segment(7, 1, (5, 1)), Segment(14, 2, (3, 2)), Segment(21, 2, (3, 2)))
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 28, 4)
    together = module.sdpa_attention(blocks(segments), "cpu")(query, key, value, None)
    assert sorted(calls) == [(1, 2, 1, 4), (1, 2, 6, 4), (3, 2, 2, 4), (3, 2, 5, 4)]
    for segment in segments:
        own = slice(segment.start, segment.start + segment.length)
        attend = module.sdpa_attention(blocks([Segment(0, segment.prefix, segment.rests)]), "cpu")
        alone = attend(query[:, :, own], key[:, :, own], value[:, :, own], None)
        assert torch.allclose(together[:, own], alone, rtol=1e-6, atol=1e-7)


def test_it_refuses_a_mask_and_a_row_that_is_not_described() -> None:
    """Called for anything but a packed row it would be silently wrong."""
    query, key, value = torch.randn(3, 1, 2, 4, 8)
    with pytest.raises(RuntimeError, match="description of a packed row"):
        module.prefix_attention(None, query, key, value, None)
    attend = module.sdpa_attention(blocks([Segment(0, 4, (0,))]), "cpu")
    with pytest.raises(RuntimeError, match="description of a packed row"):
        module.prefix_attention(None, query, key, value, torch.ones(1), packed_attention=attend)
