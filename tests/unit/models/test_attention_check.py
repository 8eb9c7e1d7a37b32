"""The self-test that a kernel has to pass, tried with kernels that are wrong in the ways that kernels are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.unit.models.dense_attention import emulated_kernel, emulated_varlen_attn
from torch import Tensor

from penchant.errors import UsageError
from penchant.models import attention_check
from penchant.models.attention_check import KERNELS, Choice, Kernel, choose_attention, failure, tolerance
from penchant.models.attention_cuda import varlen_attention, varlen_plan

CPU = torch.device("cpu")
SIZES = (4, 2, 8)  # heads, key-value heads, width


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is remembered from one test to the next."""
    failure.cache_clear()
    yield
    failure.cache_clear()


def failure_of(kernel: Callable[..., Tensor], dtype: torch.dtype = torch.float32) -> str | None:
    """What the self-test says of the flash path with this in place of torch's function."""
    with emulated_kernel(kernel):
        return failure(KERNELS["varlen"], CPU, dtype, *SIZES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_right_kernel_passes(dtype: torch.dtype) -> None:
    assert failure_of(emulated_varlen_attn, dtype) is None


def top_left(*args: Any, **options: Any) -> Tensor:
    return emulated_varlen_attn(*args, **options, top_left=True)


def one_key_more(*args: Any, **options: Any) -> Tensor:
    return emulated_varlen_attn(*args, **options, shift=1)


def other_heads(
    query: Tensor, key: Tensor, value: Tensor, *lengths: Any, enable_gqa: bool = False, **options: Any
) -> Tensor:
    """Query head i looks at key head i modulo their number, not at its own group's."""
    assert enable_gqa
    repeats = query.shape[1] // key.shape[1]
    return emulated_varlen_attn(query, key.repeat(1, repeats, 1), value.repeat(1, repeats, 1), *lengths, **options)


def other_scale(*args: Any, scale: float, **options: Any) -> Tensor:
    return emulated_varlen_attn(*args, scale=1.1 * scale, **options)


def lost_key_gradient(query: Tensor, key: Tensor, *rest: Any, **options: Any) -> Tensor:
    return emulated_varlen_attn(query, key * 0.5 + key.detach() * 0.5, *rest, **options)


def not_a_number(*args: Any, **options: Any) -> Tensor:
    return emulated_varlen_attn(*args, **options) * torch.nan


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kernel", "part"),
    [
        (top_left, "output"),
        (one_key_more, "output"),
        (other_heads, "output"),
        (other_scale, "output"),
        (lost_key_gradient, "key gradient"),
        (not_a_number, "output"),
    ],
)
def test_a_wrong_kernel_is_refused(kernel: Callable[..., Tensor], part: str, dtype: torch.dtype) -> None:
    """Also in bf16, where the tolerance is widest."""
    said = failure_of(kernel, dtype)
    assert said is not None
    assert said.startswith(f"its {part} is off by")


def test_a_kernel_that_raises_is_refused_with_its_words() -> None:
    def raising(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("no kernel\n  for this device")

    assert failure_of(raising) == "RuntimeError: no kernel for this device"


def test_a_kernel_without_a_backward_is_refused() -> None:
    """FlexAttention on a CPU is one."""
    said = failure(KERNELS["flex"], CPU, torch.float32, *SIZES)
    assert said is not None
    assert "backward" in said


def test_a_kernel_is_tried_once_a_process_for_the_same_sizes() -> None:
    calls: list[int] = []

    def counting(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        return emulated_varlen_attn(*args, **options)

    with emulated_kernel(counting):
        for _ in range(3):
            failure(KERNELS["varlen"], CPU, torch.float32, *SIZES)
        once = len(calls)
        failure(KERNELS["varlen"], CPU, torch.float32, 2, 2, 8)
    assert once == 2  # a pruned row and a whole one
    assert len(calls) == 4


def test_it_works_where_gradients_are_off_and_leaves_the_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    with torch.no_grad():
        assert failure_of(emulated_varlen_attn) is None
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_tolerance_lies_between_one_rounding_and_half_of_the_digits() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert torch.finfo(dtype).eps < tolerance(dtype) < torch.finfo(dtype).eps ** 0.5


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda:0"])
def test_sdpa_can_always_be_asked_for(device: str) -> None:
    assert choose_attention(device, torch.bfloat16, *SIZES, asked="sdpa") == Choice("sdpa", "asked for")


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_without_cuda_it_is_sdpa_at_once(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_check, "failure", None)  # nothing is tried
    choice = choose_attention(device, torch.bfloat16, *SIZES)
    assert choice == Choice("sdpa", f"varlen and flex need CUDA, not {device}")
    with pytest.raises(UsageError, match=f"need CUDA, not {device}"):
        choose_attention(device, torch.bfloat16, *SIZES, asked="varlen")


def with_failures(monkeypatch: pytest.MonkeyPatch, **wrong: str) -> Callable[..., Choice]:
    """The choice on a CUDA device where the self-test finds these things wrong."""
    said = {KERNELS[name]: words for name, words in wrong.items()}
    monkeypatch.setattr(attention_check, "failure", lambda kernel, *_: said.get(kernel))
    return functools.partial(choose_attention, "cuda", torch.bfloat16, *SIZES)


def test_the_fastest_that_agrees_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_failures(monkeypatch)() == Choice("varlen", "varlen agrees with sdpa here")


def test_what_is_passed_over_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = with_failures(monkeypatch, varlen="too old a GPU")
    assert choose() == Choice("flex", "not varlen: too old a GPU; flex agrees with sdpa here")


def test_when_none_agrees_it_is_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = with_failures(monkeypatch, varlen="too old", flex="no compiler")
    assert choose() == Choice("sdpa", "not varlen: too old; not flex: no compiler")


def test_a_kernel_asked_for_by_name_is_used_or_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = with_failures(monkeypatch, varlen="too old a GPU")
    assert choose(asked="flex") == Choice("flex", "asked for")
    with pytest.raises(UsageError, match='"varlen" does not work here: too old a GPU') as error:
        choose(asked="varlen")
    assert error.value.where == "engine.attention"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_cuda_device_that_is_not_there_gives_reasons_and_no_traceback() -> None:
    choice = choose_attention("cuda", torch.bfloat16, *SIZES)
    assert choice.name == "sdpa"
    assert choice.reason.startswith("not varlen: ")
    assert "; not flex: " in choice.reason


def test_a_kernel_is_its_plan_and_its_function() -> None:
    assert KERNELS["varlen"] == Kernel(varlen_plan, varlen_attention)
    assert list(KERNELS) == ["varlen", "flex"]
