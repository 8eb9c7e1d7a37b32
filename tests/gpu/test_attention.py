"""The attention kernels on a CUDA device, with the real functions that the other tests emulate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.tiny import gradients, largest_difference, plain_token_logps, random_groups, tiny_llama
from tests.unit.models.dense_attention import (
    Inputs,
    Row,
    dense_attention,
    may_see,
    output_and_gradients,
    random_inputs,
    wanted_rows,
)
from tests.unit.models.packed_model import packed_token_logps
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaForCausalLM

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Segment
from penchant.models.attention_check import KERNELS, choose_attention, failure, tolerance

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # compilers warn as they like, and not about us
]

CUDA = torch.device("cuda")
HEADS = [(9, 3, 64), (16, 8, 128), (4, 4, 32), (8, 1, 64)]  # query heads, key-value heads, width
ROWS: list[Row] = [
    ((Segment(0, 300, (140, 200)), Segment(640, 5, (7, 0, 130))), None),
    ((Segment(0, 300, (140, 200)), Segment(640, 5, (7, 0, 130))), (299, 644)),
    ((Segment(0, 1, (1, 1, 1, 1)), Segment(5, 256, (128, 128))), None),
    ((Segment(0, 3, (0,)),), (2,)),
]
# flash kernels know no fp32; SDPA under a mask is what both are compared with at the start of a run
CASES = [
    ("varlen", torch.bfloat16),
    ("varlen", torch.float16),
    ("flex", torch.bfloat16),
    ("flex", torch.float32),
    ("sdpa", torch.bfloat16),
    ("sdpa", torch.float32),
]


def computed(name: str, row: Row, inputs: Inputs) -> list[Tensor]:
    """Output and gradients of a kernel, or of SDPA under the whole mask."""
    segments, first_query = row
    scale = inputs[0].shape[-1] ** -0.5
    if name == "sdpa":
        seen = may_see(segments)[wanted_rows(*row)].cuda()
        repeats = inputs[0].shape[1] // inputs[1].shape[1]

        def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
            return scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale)

        return output_and_gradients(masked, inputs)
    kernel = KERNELS[name]
    plan = kernel.plan(blocks(segments, first_query), inputs[1].shape[2], "cuda")
    return output_and_gradients(lambda q, k, v: kernel.attend(q, k, v, plan, scale), inputs)


def inputs_on_cuda(row: Row, heads: tuple[int, int, int], dtype: torch.dtype) -> Inputs:
    query, key, value = random_inputs(row, *heads, dtype)
    return query.cuda(), key.cuda(), value.cuda()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_kernel_is_the_masked_softmax_forward_and_backward(
    name: str, dtype: torch.dtype, heads: tuple[int, int, int], row: Row
) -> None:
    """Against float64 of the same rounded numbers, written out."""
    inputs = inputs_on_cuda(row, heads, dtype)
    seen = may_see(row[0])[wanted_rows(*row)].cuda()
    exact = (inputs[0].double(), inputs[1].double(), inputs[2].double())
    expected = output_and_gradients(lambda q, k, v: dense_attention(q, k, v, seen, heads[2] ** -0.5), exact)
    for one, other in zip(computed(name, row, inputs), expected, strict=True):
        assert one.dtype == dtype
        assert float((one.double() - other).abs().max()) <= tolerance(dtype) * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("heads", HEADS)
def test_flash_kernels_pass_the_self_test_where_they_exist(heads: tuple[int, int, int]) -> None:
    """From compute capability 8.0 on; it would silently be slow otherwise."""
    if torch.cuda.get_device_capability() < (8, 0):
        # an older GPU has no flash kernel at all: nothing that could fail is left out there
        pytest.skip("flash kernels need compute capability 8.0")
    choice = choose_attention("cuda", torch.bfloat16, *heads)
    assert choice.name == "varlen", choice.reason


def test_flex_passes_the_self_test_in_both_types() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        assert failure(KERNELS["flex"], CUDA, dtype, 9, 3, 64) is None


def test_in_fp32_flash_kernels_are_passed_over_with_the_reason() -> None:
    choice = choose_attention("cuda", torch.float32, 9, 3, 64)
    assert choice.name != "varlen"
    assert choice.reason.startswith("not varlen: TypeError: flash kernels compute in bf16 or fp16")


@contextlib.contextmanager
def no_host_syncs() -> Iterator[None]:
    """Make everything an error that waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["varlen", "flex"])
def test_neither_the_plan_nor_a_layer_makes_the_host_wait(name: str) -> None:
    row = ROWS[1]
    query, key, value = (t.requires_grad_() for t in inputs_on_cuda(row, HEADS[0], torch.bfloat16))
    weights = torch.ones_like(query)
    computed(name, row, (query, key, value))  # compiled and loaded
    with no_host_syncs():
        plan = KERNELS[name].plan(blocks(*row), key.shape[2], "cuda")
        output = KERNELS[name].attend(query, key, value, plan, 0.125)
        torch.autograd.grad(output, (query, key, value), weights)


def test_flash_gradients_are_equal_bit_for_bit_when_determinism_is_asked_for() -> None:
    """The prefix's keys are shared by two responses, whose gradients come together."""
    inputs = inputs_on_cuda(ROWS[0], HEADS[0], torch.bfloat16)
    torch.use_deterministic_algorithms(True)
    try:
        runs = [computed("varlen", ROWS[0], inputs) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for run in runs[1:]:
        assert all(torch.equal(one, other) for one, other in zip(run, runs[0], strict=True))


def test_flex_serves_many_lengths_without_being_compiled_for_each() -> None:
    """Past the limit of recompilations it is an error, so that it passes at all is the proof."""
    for number in range(20):
        row: Row = ((Segment(0, 90 + 61 * number, (30 + 7 * number, 40)),), None)
        inputs = inputs_on_cuda(row, HEADS[0], torch.float32)
        found = computed("flex", row, inputs)
        expected = computed("sdpa", row, inputs)
        for one, other in zip(found, expected, strict=True):
            assert largest_difference(one, other) < 1e-4


@pytest.fixture
def model() -> LlamaForCausalLM:
    made: Any = tiny_llama(hidden_size=128, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2)
    return made.to("cuda")


def whole_model(model: LlamaForCausalLM, name: str | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Token log-probabilities and gradients, packed with a kernel, or of separate sequences when it is None."""
    groups = random_groups(6, responses=3)
    found = None if name is None else packed_token_logps(model, groups, KERNELS[name])
    with torch.device("cuda"):  # where the helpers make their ids and weights
        found = plain_token_logps(model, groups) if found is None else found
        return found.detach(), gradients(model, found)


def test_a_whole_model_in_fp32_is_that_of_separate_sequences(model: LlamaForCausalLM) -> None:
    expected, slopes = whole_model(model, None)
    found, found_slopes = whole_model(model, "flex")
    assert largest_difference(found, expected) < 1e-5
    for name, slope in slopes.items():
        assert largest_difference(found_slopes[name], slope) < 1e-4, name


@pytest.mark.parametrize("kernel", ["varlen", "flex"])
def test_a_whole_model_in_bf16_is_no_further_from_fp32_than_sdpa(model: LlamaForCausalLM, kernel: str) -> None:
    """The plain bf16 path, separate sequences through SDPA, sets how far is allowed."""
    truth, true_slopes = whole_model(model, None)
    with torch.autocast("cuda", torch.bfloat16):
        plain, plain_slopes = whole_model(model, None)
        found, found_slopes = whole_model(model, kernel)

    def error(logps: Tensor, slopes: dict[str, Tensor]) -> tuple[float, float]:
        squares = [float((slopes[name] - true_slopes[name]).square().sum()) for name in true_slopes]
        return float((logps - truth).square().mean().sqrt()), sum(squares) ** 0.5

    for ours, usual in zip(error(found, found_slopes), error(plain, plain_slopes), strict=True):
        assert ours <= 1.25 * usual  # two roundings of one number differ by chance
