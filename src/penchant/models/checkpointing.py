"""Activation checkpointing: layers that keep their input alone and are computed again in the backward pass.

Chen et al. 2016, arXiv:1604.06174. It trades a second forward pass of the trained layers for their memory and
changes no bit of a result. A decoder's layers are wrapped in shallow copies that share their parameters, as its
parts are (`penchant.models.trunk`), so the model itself stays as it was.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from penchant.models.freeze import decoder, layers
from penchant.models.trunk import Part, attending_packed


def recomputed_part(part: Part) -> Part:
    """Return the part with layers that are computed again in the backward pass, from the same arguments."""
    return replace(part, module=_recomputing(part.module, part.configs))


def recomputed_model(model: PreTrainedModel) -> PreTrainedModel:
    """Return the whole model with layers that are computed again in the backward pass."""
    whole, stack = _shallow(model), decoder(model)
    name = next(name for name, module in model.named_children() if module is stack)
    whole._modules[name] = _recomputing(stack, ())
    return whole


def _recomputing(stack: PreTrainedModel, configs: tuple[Any, ...]) -> PreTrainedModel:
    copied = _shallow(stack)
    copied._modules["layers"] = nn.ModuleList(_recomputing_layer(layer, configs) for layer in layers(stack))
    return copied


def _recomputing_layer(layer: nn.Module, configs: tuple[Any, ...]) -> nn.Module:
    def run(*args: Any, **kwargs: Any) -> Any:
        with attending_packed(configs):  # in the backward pass nobody else has said so
            return layer.forward(*args, **kwargs)

    copied: Any = copy.copy(layer)
    # dropout is off, so there are no random numbers to draw again
    copied.forward = functools.partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
    return copied


def _shallow(model: PreTrainedModel) -> PreTrainedModel:
    copied = copy.copy(model)
    copied._modules = dict(model._modules)
    return copied
