"""The flash path over packed rows: packing, gathering, gradients and lengths, with the kernel itself emulated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import gradients, largest_difference, plain_token_logps, random_groups, tiny_llama
from tests.unit.models.dense_attention import (
    Row,
    dense_attention,
    emulated_kernel,
    emulated_varlen_attn,
    may_see,
    output_and_gradients,
    random_inputs,
    rows,
    varlen_without_gqa,
    wanted_rows,
)
from tests.unit.models.packed_model import packed_token_logps
from torch import Tensor

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Segment
from penchant.models.attention_check import KERNELS
from penchant.models.attention_cuda import VarlenPlan, shared_rows, varlen_attention, varlen_plan

SEGMENTS = (Segment(0, 2, (1, 3)), Segment(6, 1, (0, 2, 1)))


def plan_of(row: Row) -> VarlenPlan:
    segments, first_query = row
    return varlen_plan(blocks(segments, first_query), sum(segment.length for segment in segments))


@settings(max_examples=60)
@given(
    rows(), st.sampled_from([(2, 2), (4, 2), (3, 1)]), st.sampled_from([emulated_varlen_attn, varlen_without_gqa])
)
def test_it_is_the_masked_softmax_forward_and_backward(row: Row, heads: tuple[int, int], kernel: Any) -> None:
    """In float64, to the last digits: pruned or not, shared heads or not, with the old and the new arguments."""
    inputs = random_inputs(row, *heads, 3, torch.float64)
    seen = may_see(row[0])[wanted_rows(*row)]
    with emulated_kernel(kernel):
        found = output_and_gradients(lambda q, k, v: varlen_attention(q, k, v, plan_of(row), 0.7), inputs)
    expected = output_and_gradients(lambda q, k, v: dense_attention(q, k, v, seen, 0.7), inputs)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_the_plan_of_a_row_by_hand() -> None:
    """Two pairs of one prefix and a triple whose first response feeds no token of its own."""
    plan = plan_of((SEGMENTS, (1, 6)))
    assert plan.cu_queries.tolist() == [0, 2, 5, 6, 8, 9]
    assert plan.cu_keys.tolist() == [0, 3, 8, 9, 12, 14]
    assert plan.cu_queries.dtype == plan.cu_keys.dtype == torch.int32
    assert (plan.max_queries, plan.max_keys) == (3, 5)
    assert plan.gather.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6, 6, 7, 8, 6, 9]
    assert [place.tolist() for place in plan.places] == [
        [0, 1, 2, 5, 6, 7, 8, 10, 11, 13],
        [3, 4, 14, 14, 14, 14, 9, 14, 14, 14],
        [14, 14, 14, 14, 14, 14, 12, 14, 14, 14],
    ]


def test_lengths_are_numbers_on_the_host() -> None:
    """The kernel launch needs them; read from the device they would make the host wait in every layer."""
    plan = plan_of((SEGMENTS, None))
    assert type(plan.max_queries) is int
    assert type(plan.max_keys) is int


def test_a_row_that_nobody_looks_at_gets_no_gradient() -> None:
    """The whole second group is pruned: its keys stand in no block."""
    plan = plan_of((SEGMENTS, (0, 10)))
    tokens = torch.ones(10, 1, requires_grad=True)
    shared_rows(tokens, plan).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[:, 0].tolist() == [2, 2, 1, 1, 1, 1, 0, 0, 0, 0]


def test_the_gradient_of_shared_rows_is_that_of_indexing() -> None:
    rows_once = torch.randn(10, 2, dtype=torch.float64, requires_grad=True)
    plan = plan_of((SEGMENTS, None))
    assert torch.equal(shared_rows(rows_once, plan), rows_once[plan.gather])
    assert torch.autograd.gradcheck(lambda rows: shared_rows(rows, plan), (rows_once,))


def test_gradients_of_many_responses_are_summed_in_fp32() -> None:
    """In bf16 the sum of ones stops at 256."""
    plan = plan_of(((Segment(0, 1, (0,) + (1,) * 299),), None))
    tokens = torch.ones(300, 1, dtype=torch.bfloat16, requires_grad=True)
    shared_rows(tokens, plan).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.dtype == torch.bfloat16
    assert tokens.grad[:2, 0].tolist() == [300, 1]


def test_it_computes_in_the_type_of_the_values() -> None:
    """Under autocast rotary embeddings leave queries and keys in fp32; the answer comes back as they were."""
    types = []

    def spying(query: Tensor, key: Tensor, value: Tensor, *lengths: Any, **options: Any) -> Tensor:
        types.append((query.dtype, key.dtype, value.dtype))
        return emulated_varlen_attn(query, key, value, *lengths, **options)

    query, key, value = random_inputs((SEGMENTS, None), 2, 2, 4, torch.float32)
    with emulated_kernel(spying):
        found = varlen_attention(query, key, value.bfloat16(), plan_of((SEGMENTS, None)), 0.5)
    assert types == [(torch.bfloat16,) * 3]
    assert found.dtype == torch.float32


def test_fp32_is_refused_and_not_rounded() -> None:
    query, key, value = random_inputs((SEGMENTS, None), 2, 2, 4, torch.float32)
    with pytest.raises(TypeError, match="bf16 or fp16"):
        varlen_attention(query, key, value, plan_of((SEGMENTS, None)), 0.5)


def test_a_row_without_a_query_has_no_plan() -> None:
    with pytest.raises(ValueError, match="without a query"):
        varlen_plan((), 4)


@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
def test_the_installed_torch_takes_the_call_forward_and_backward(heads: tuple[int, int]) -> None:
    """On the meta device: torch's own function with its own argument checks, and no numbers."""
    row: Row = (SEGMENTS, (1, 6))
    inputs = [tensor.to("meta").requires_grad_() for tensor in random_inputs(row, *heads, 8, torch.bfloat16)]
    query, key, value = inputs
    output = varlen_attention(query, key, value, plan_of(row).to("meta"), 0.5)
    assert output.shape == inputs[0].shape
    output.backward(torch.empty_like(output))
    assert [tensor.grad.shape for tensor in inputs if tensor.grad is not None] == [t.shape for t in inputs]


def test_a_whole_model_gives_the_tokens_and_the_gradients_of_separate_sequences() -> None:
    """Through transformers' own attention interface, with shared heads and rotary embeddings."""
    model = tiny_llama(layers=2)
    groups = random_groups(4, responses=3)
    with emulated_kernel():
        found = packed_token_logps(model, groups, KERNELS["varlen"])
        slopes = gradients(model, found)
    expected = plain_token_logps(model, groups)
    assert largest_difference(found.detach(), expected.detach()) < 1e-5
    for name, slope in gradients(model, expected).items():
        assert largest_difference(slopes[name], slope) < 1e-4, name
