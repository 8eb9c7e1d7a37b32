"""Optimizers that nobody waits for: how to scale gradients, and whether to update at all, stands on the device.

Each has two attributes that are set before a step, as torch's GradScaler sets them for its fused optimizers:
`grad_scale`, by which gradients are divided, and `found_inf`; where that is 1, neither weights nor state change.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from penchant.config import Config, TrainConfig
from penchant.errors import UsageError
from penchant.objective.pair_model import PairModel

_EPSILON = 1e-8


def check_optimizer(config: TrainConfig) -> None:
    """Find out before any work whether the configured optimizer is there.

    Raises:
        UsageError: It needs bitsandbytes, and that cannot be imported.
    """
    if config.optimizer == "adamw_8bit":
        _bitsandbytes()


def make_optimizer(config: Config, model: PairModel) -> torch.optim.Optimizer:
    """Return the configured optimizer over what is trained; norms and biases do not decay.

    adamw: Loshchilov & Hutter 2019 (arXiv:1711.05101), torch's fused kernel. rmsprop: see `RMSprop`. adamw_8bit:
    the same as adamw with moments of 8 bits in blocks of 256 (Dettmers et al. 2022, arXiv:2110.02861).

    Raises:
        UsageError: See `check_optimizer`.
    """
    train = config.train
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if train.optimizer == "rmsprop":
        return RMSprop(groups, lr=train.learning_rate, alpha=train.rmsprop_alpha)
    betas = (train.adam_beta1, train.adam_beta2)
    if train.optimizer == "adamw_8bit":
        return _adamw_8bit([group for group in groups if group["params"]], train.learning_rate, betas)
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=betas, fused=True)


def clipping_scale(grad_norm: Tensor, clip_norm: float | None) -> Tensor:
    """Return what gradients are divided by so that their norm is at most `clip_norm`: 1 or more, a scalar."""
    return (grad_norm.float() / (clip_norm or math.inf)).clamp(min=1.0)


class RMSprop(torch.optim.Optimizer):
    """RMSprop (Hinton 2012, lecture 6e), what DPO's own paper was made with (Rafailov et al. 2023, appendix B).

    The same as torch's without momentum, with two differences: weight decay is decoupled, as in AdamW, and an
    update that is not finite is refused on the device.

    Args:
        params: Groups of parameters, each with its `weight_decay`.
        lr: Learning rate.
        alpha: Decay of the mean square, in [0, 1).
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, lr: float, alpha: float) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "weight_decay": 0.0})
        self.grad_scale: Tensor | None = None
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. Its gradient is divided by `grad_scale` in place."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, **{name: group[name] for name in ("lr", "alpha", "weight_decay")})

    def _update(self, parameter: Tensor, *, lr: float, alpha: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["square_avg"] = torch.zeros_like(parameter)
        gradient = _usable_gradient(parameter, self.grad_scale, self.found_inf)
        # With the gradient at zero and both decays at one nothing below changes a bit. In place throughout: a copy
        # of the largest matrix is memory that nothing else needs at this moment.
        square = state["square_avg"].mul_(_unless(self.found_inf, alpha, parameter))
        square.addcmul_(gradient, gradient, value=1 - alpha)
        if weight_decay:
            parameter.mul_(_unless(self.found_inf, 1 - lr * weight_decay, parameter))
        parameter.addcdiv_(gradient, square.sqrt().add_(_EPSILON), value=-lr)


def _usable_gradient(parameter: Tensor, scale: Tensor | None, refused: Tensor | None) -> Tensor:
    """The gradient, divided in place; all zeros where the update is refused."""
    gradient = parameter.grad
    assert gradient is not None
    if scale is not None:
        gradient.div_(scale)
    if refused is not None:
        gradient.masked_fill_(refused > 0, 0.0)
    return gradient


def _unless(refused: Tensor | None, factor: float, like: Tensor) -> Tensor | float:
    """The factor, or one where the update is refused."""
    if refused is None:
        return factor
    return torch.where(refused > 0, 1.0, factor).to(like.dtype)


def _adamw_8bit(groups: list[dict[str, Any]], rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW of bitsandbytes. Its kernels know no refusal, so what they changed is put back, matrix by matrix."""
    base: Any = _bitsandbytes().optim.AdamW8bit

    class AdamW8bit(base):
        grad_scale: Tensor | None = None
        found_inf: Tensor | None = None

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            # the library's own loop waits for the device after every matrix
            for group_index, group in enumerate(self.param_groups):
                for index, parameter in enumerate(group["params"]):
                    if parameter.grad is None:
                        continue
                    if not self.state[parameter]:
                        self.init_state(group, parameter, group_index, index)
                    _usable_gradient(parameter, self.grad_scale, self.found_inf)
                    changing = [parameter, *(v for v in self.state[parameter].values() if torch.is_tensor(v))]
                    before = [tensor.clone() for tensor in changing]
                    self.update_step(group, parameter, group_index, index)
                    for tensor, old in zip(changing, before, strict=True):
                        if self.found_inf is not None:
                            tensor.copy_(torch.where(self.found_inf > 0, old, tensor))

    return AdamW8bit(groups, lr=rate, betas=betas, eps=_EPSILON, weight_decay=0.0)


def _bitsandbytes() -> Any:
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise UsageError(
            f'train.optimizer "adamw_8bit" needs the package bitsandbytes, which cannot be imported ({error})',
            fix="Install it (pip install bitsandbytes), or take --set train.optimizer=adamw.",
        ) from error
