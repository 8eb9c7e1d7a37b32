"""A decoder cut across: the frozen lower layers (the trunk), the trained upper ones, and the last one.

No model code is copied. The parts are shallow copies of transformers' own decoder that share its parameters:
each has some of the layers and is fed the outputs of the part below as embeddings; only the last has the final
norm. Run one after the other they replay the whole forward exactly.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from penchant.models.attention import PREFIX_ATTENTION, Attend
from penchant.models.freeze import decoder, final_norm, layers


@dataclass(frozen=True)
class Part:
    """Some layers of a decoder.

    Attributes:
        module: A decoder of these layers alone, to which the parameters belong that the whole one has.
        configs: Where its layers look up which attention they are to use.
    """

    module: PreTrainedModel
    configs: tuple[Any, ...]


def split_decoder(model: PreTrainedModel, cuts: Sequence[int]) -> list[Part]:
    """Return the decoder in parts, cut below the layers `cuts`; the last part has the norm, the others none."""
    stack = decoder(model)
    edges = [0, *cuts, len(layers(stack))]
    modules = [_slice(stack, start, end) for start, end in itertools.pairwise(edges)]
    norm = final_norm(stack)
    name = next(name for name, module in stack.named_children() if module is norm)
    for module in modules[:-1]:
        module._modules[name] = nn.Identity()
    whole = [model.config] if stack.config is model.config else [stack.config, model.config]
    return [Part(module, (module.config, *whole)) for module in modules]


def rounded_part(part: Part) -> Part:
    """Return a part whose linear layers hold their weights in bf16, as autocast would round them at every call.

    For layers that are never trained: the copy is rounded once, and takes half the memory of what it copies.
    """
    module = copy.copy(part.module)
    shared = {id(config): config for config in part.configs}  # layers look up there which attention to use
    own = [copy.deepcopy(layer, dict(shared)) for layer in layers(part.module)]
    for linear in (inner for layer in own for inner in layer.modules() if isinstance(inner, nn.Linear)):
        linear.requires_grad_(False).to(torch.bfloat16)
    module._modules = {**part.module._modules, "layers": nn.ModuleList(own)}
    return Part(module, part.configs)


def run_part(part: Part, inputs: Tensor, positions: Tensor, attend: Attend, *, embed: bool = False) -> Tensor:
    """Return a part's outputs for some rows, shape (rows, width).

    Args:
        part: From `split_decoder`.
        inputs: Ids, shape (1, rows), if `embed`; else what the part below gave, shape (rows, width).
        positions: Position of each row in its own sequence, shape (1, rows).
        attend: Who sees whom.
        embed: Whether this is the first part.
    """
    fed: dict[str, Any] = {"input_ids": inputs} if embed else {"inputs_embeds": inputs[None]}
    run: Any = part.module
    with attending_packed(part.configs):
        done = run(**fed, position_ids=positions, use_cache=False, packed_attention=attend)
    return done.last_hidden_state[0]


def run_pruned_layer(
    part: Part, inputs: Tensor, positions: Tensor, asked: Tensor, others: Tensor, attend: Attend
) -> Tensor:
    """Return the outputs of a part of one layer for some of its rows, shape (asked, width).

    The other rows serve as keys and values only: for them the layer runs until it asks for attention and no
    further. The output projection, the feed-forward part and the norm see the asked rows alone.

    Args:
        part: One layer and the norm.
        inputs: Outputs of the layer below, shape (rows, width).
        positions: Shape (1, rows).
        asked: The rows that are wanted, ascending.
        others: All other rows, ascending.
        attend: Attention of the asked rows, in their order, over all rows.
    """
    if not len(others):
        return run_part(part, inputs, positions, attend)
    keys, values = _keys_and_values(part, inputs.index_select(0, others), positions.index_select(1, others))
    back = torch.cat([others, asked]).argsort()  # from (others, asked) to the order of the row

    def attend_all(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        whole = [torch.cat(both, dim=2).index_select(2, back) for both in ((keys, key), (values, value))]
        return attend(query, whole[0], whole[1], scale)

    return run_part(part, inputs.index_select(0, asked), positions.index_select(1, asked), attend_all)


class _FarEnoughError(Exception):
    """Ends a layer's forward where its keys and values are known."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = key, value


def _keys_and_values(part: Part, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """What the part's only layer would attend over, each (1, key-value heads, rows, head width)."""

    def stop(_query: Tensor, key: Tensor, value: Tensor, _scale: float | None) -> Tensor:
        raise _FarEnoughError(key, value)

    try:
        run_part(part, inputs, positions, stop)
    except _FarEnoughError as found:
        return found.key, found.value
    raise RuntimeError("the last layer never asked for attention")


@contextlib.contextmanager
def attending_packed(configs: Sequence[Any]) -> Iterator[None]:
    """Let layers attend over the packed row; afterwards the model is as it was, fit to generate.

    Args:
        configs: Of the part whose layers they are.
    """
    before = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = PREFIX_ATTENTION
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def _slice(stack: PreTrainedModel, start: int, end: int) -> PreTrainedModel:
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
