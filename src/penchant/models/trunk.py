"""A decoder cut in two: the frozen lower layers (the trunk) and the trained upper ones.

No model code is copied. Both halves are shallow copies of transformers' own decoder that share its parameters:
the lower one has the first layers and no final norm, the upper one the other layers and is fed embeddings. Run
one after the other they replay the whole forward exactly.
"""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel

from penchant.models.freeze import decoder, final_norm, layers


def split_decoder(model: PreTrainedModel, lower_layers: int) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return the decoder's first `lower_layers` layers (without norm) and the rest (with norm)."""
    stack = decoder(model)
    count = len(layers(stack))
    lower, upper = _part(stack, 0, lower_layers), _part(stack, lower_layers, count)
    norm = final_norm(stack)
    name = next(name for name, module in stack.named_children() if module is norm)
    lower._modules[name] = nn.Identity()
    return lower, upper


def _part(stack: PreTrainedModel, start: int, end: int) -> PreTrainedModel:
    part = copy.copy(stack)
    part._modules = dict(stack._modules)
    part._modules["layers"] = nn.ModuleList(layers(stack)[start:end])
    part.config = copy.copy(stack.config)  # the forward reads the number and the types of its layers from here
    part.config.num_hidden_layers = end - start
    layer_types = getattr(stack.config, "layer_types", None)
    if layer_types is not None:
        part.config.layer_types = layer_types[start:end]
    return part


def disable_dropout(model: PreTrainedModel) -> None:
    """Set every dropout to p = 0, so that policy and reference are functions of the tokens alone."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
