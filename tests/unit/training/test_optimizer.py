"""Optimizers: the textbook's numbers, clipping inside, and updates that are refused without a trace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.tiny import pair_model, tiny_config, tiny_llama
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from penchant.errors import UsageError
from penchant.models.freeze import choose_trainable
from penchant.training.checkpoint import load_checkpoint, save_checkpoint
from penchant.training.optimizer import RMSprop, check_optimizer, clipping_scale, make_optimizer


def weights(seed: int = 0) -> list[torch.nn.Parameter]:
    """A matrix, large enough for states of 8 bits, with zeros of both signs, and a vector."""
    generator = torch.Generator().manual_seed(seed)
    matrix, vector = torch.randn(64, 96, generator=generator), torch.randn(7, generator=generator)
    matrix[0, :4] = torch.tensor([0.0, -0.0, 1e-40, -1e-40])
    return [torch.nn.Parameter(matrix), torch.nn.Parameter(vector)]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    return [3 * torch.randn(64, 96, generator=generator), torch.randn(7, generator=generator)]


def take(optimizer: torch.optim.Optimizer, found: list[Tensor], *, clip: float | None, refused: bool) -> None:
    """One step as the loop takes it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.grad = gradient.clone()
    obeying = cast(Any, optimizer)
    obeying.grad_scale = clipping_scale(torch.nn.utils.get_total_norm(found), clip)
    obeying.found_inf = torch.zeros(()) + float(refused)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def groups(parameters: list[torch.nn.Parameter], decay: float) -> list[dict[str, Any]]:
    return [{"params": parameters[:1], "weight_decay": decay}, {"params": parameters[1:], "weight_decay": 0.0}]


def rmsprop(parameters: list[torch.nn.Parameter], decay: float = 0.0) -> torch.optim.Optimizer:
    return RMSprop(groups(parameters, decay), lr=1e-2, alpha=0.9)


def fused_adamw(parameters: list[torch.nn.Parameter], decay: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups(parameters, decay), lr=1e-2, fused=True)


@pytest.mark.parametrize("clip", [None, 1.0, 1e6])
def test_rmsprop_is_the_textbooks_with_the_gradient_clipped(clip: float | None) -> None:
    """Twenty steps beside torch's own optimizer and its own clipping."""
    ours, theirs = weights(), weights()
    optimizer, twin = rmsprop(ours), torch.optim.RMSprop(theirs, lr=1e-2, alpha=0.9)
    for step in range(20):
        take(optimizer, gradients(step), clip=clip, refused=False)
        for parameter, gradient in zip(theirs, gradients(step), strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(theirs, clip or float("inf"))
        twin.step()
    for one, other, start in zip(ours, theirs, weights(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert float((one - start).detach().abs().max()) > 0.05


def test_rmsprop_decays_weights_apart_from_the_gradient() -> None:
    """A matrix shrinks by lr x decay a step on top of the plain update; a vector does not."""
    ours, plain = weights(), weights()
    take(rmsprop(ours, decay=0.5), gradients(0), clip=None, refused=False)
    take(rmsprop(plain), gradients(0), clip=None, refused=False)
    shrunk = weights()[0] * (1e-2 * 0.5)
    torch.testing.assert_close(ours[0], plain[0] - shrunk, rtol=1e-6, atol=1e-6)
    assert torch.equal(ours[1], plain[1])


def bits(optimizer: torch.optim.Optimizer) -> list[bytes]:
    """Every byte of weights and state; a count that the library keeps as a plain number is none of them."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    held = [v for p in parameters for _, v in sorted(optimizer.state[p].items()) if torch.is_tensor(v)]
    return [t.detach().reshape(-1).view(torch.uint8).numpy().tobytes() for t in (*parameters, *held)]


def assert_a_refused_update_leaves_no_trace(
    make: Callable[[list[torch.nn.Parameter], float], torch.optim.Optimizer], value: float
) -> None:
    parameters = weights()
    optimizer = make(parameters, 0.1)
    for step in range(3):
        take(optimizer, gradients(step), clip=1.0, refused=False)
    before = bits(optimizer)
    poisoned = gradients(3)
    poisoned[0][5, 5] = value
    take(optimizer, poisoned, clip=1.0, refused=True)
    assert bits(optimizer) == before
    take(optimizer, gradients(4), clip=1.0, refused=True)  # sound, but the loss was not
    assert bits(optimizer) == before
    take(optimizer, gradients(5), clip=1.0, refused=False)
    moved = [one != other for one, other in zip(bits(optimizer), before, strict=True)]
    assert all(moved[: len(parameters)])
    assert sum(moved) >= 2 * len(parameters)  # and some of the state of each


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("make", [rmsprop, fused_adamw])
def test_a_refused_update_changes_no_bit(
    make: Callable[[list[torch.nn.Parameter], float], torch.optim.Optimizer], value: float
) -> None:
    """Neither of the weights, signs of zeros included, nor of the state; the next update is as ever."""
    assert_a_refused_update_leaves_no_trace(make, value)


def test_a_first_update_that_is_refused_leaves_the_weights() -> None:
    parameters = weights()
    take(rmsprop(parameters, 0.1), [torch.full((64, 96), torch.nan), torch.ones(7)], clip=1.0, refused=True)
    for parameter, start in zip(parameters, weights(), strict=True):
        assert torch.equal(parameter.detach().view(torch.int32), start.detach().view(torch.int32))


def test_rmsprop_never_waits_for_the_device() -> None:
    """On tensors that have no values a step that read one would raise."""
    with FakeTensorMode():
        parameters = [torch.nn.Parameter(torch.zeros(8, 8)), torch.nn.Parameter(torch.zeros(8))]
        optimizer = rmsprop(parameters, 0.1)
        take(optimizer, [torch.ones(8, 8), torch.ones(8)], clip=1.0, refused=False)
        with pytest.raises(DataDependentOutputException):
            bool(cast(Any, optimizer).found_inf)  # that this one would


@pytest.mark.parametrize("name", ["adamw", "rmsprop"])
def test_norms_do_not_decay_and_frozen_weights_are_left_out(name: str) -> None:
    model = tiny_llama()
    choose_trainable(model, 1)
    config = tiny_config("tiny", train={"optimizer": name, "weight_decay": 0.25})
    optimizer = make_optimizer(config, pair_model(model))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    trained = {id(p): 0.25 if p.ndim >= 2 else 0.0 for p in model.parameters() if p.requires_grad}
    assert decays == trained
    assert sorted(set(decays.values())) == [0.0, 0.25]


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({"optimizer": "adamw", "adam_beta1": 0.8, "adam_beta2": 0.7}, {"betas": (0.8, 0.7), "lr": 1e-3}),
        ({"optimizer": "rmsprop", "rmsprop_alpha": 0.6}, {"alpha": 0.6, "lr": 1e-3}),
    ],
)
def test_the_knobs_reach_the_optimizer(train: dict[str, Any], expected: dict[str, Any]) -> None:
    optimizer = make_optimizer(tiny_config("tiny", train=train), pair_model(tiny_llama()))
    assert expected.items() <= optimizer.defaults.items()


def test_without_bitsandbytes_eight_bits_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the check that comes before any work, and by the optimizer itself."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    config = tiny_config("tiny", train={"optimizer": "adamw_8bit"})
    with pytest.raises(UsageError, match="pip install bitsandbytes"):
        check_optimizer(config.train)
    with pytest.raises(UsageError, match=r"train\.optimizer=adamw"):
        make_optimizer(config, pair_model(tiny_llama()))
    check_optimizer(tiny_config("tiny").train)


def test_eight_bits_refuse_scale_and_resume_where_bitsandbytes_is(tmp_path: Path) -> None:
    """A refused update leaves no trace, gradients are clipped, and a checkpoint holds the moments."""
    pytest.importorskip("bitsandbytes")

    def model_and_optimizer(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.ParameterList(weights(seed))
        config = tiny_config("tiny", train={"optimizer": "adamw_8bit", "weight_decay": 0.1, "learning_rate": 1e-2})
        return model, make_optimizer(config, cast(Any, model))

    assert_a_refused_update_leaves_no_trace(lambda _, __: model_and_optimizer(0)[1], float("nan"))
    model, optimizer = model_and_optimizer(0)
    scaled, other = model_and_optimizer(0)
    for step in range(3):
        take(optimizer, gradients(step), clip=1.0, refused=False)
        norm = torch.nn.utils.get_total_norm(gradients(step))
        take(other, [gradient / norm for gradient in gradients(step)], clip=None, refused=False)
    for one, two, start in zip(model.parameters(), scaled.parameters(), weights(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
        assert float((one - start).detach().abs().max()) > 0.02
    path = save_checkpoint(tmp_path, 3, model, optimizer, {})
    fresh, resumed = model_and_optimizer(5)
    load_checkpoint(path, fresh, resumed)
    for each in (optimizer, resumed):
        take(each, gradients(3), clip=1.0, refused=False)
    assert bits(resumed) == bits(optimizer)
