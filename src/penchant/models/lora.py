"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) by peft, put into a model and taken out again.

A fresh adapter adds exactly nothing, its second factor being zero: the untouched policy is the reference here too.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from penchant.errors import UsageError


@dataclass(frozen=True)
class Lora:
    """What adapters are asked for.

    Attributes:
        rank: Width of the two factors.
        alpha: The product of the factors is added alpha / rank times.
        seed: Of the first factor's random values.
    """

    rank: int
    alpha: float
    seed: int


def add_adapters(model: PreTrainedModel, layers: list[nn.Module], lora: Lora) -> Any:
    """Give every linear layer inside some decoder layers an adapter and freeze everything else.

    Returns:
        peft's model, which knows how to save and to merge the adapters; `model` itself now has them inside.

    Raises:
        UsageError: There is no linear layer in them.
    """
    inside = {id(module) for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)}
    names = [name for name, module in model.named_modules() if id(module) in inside]
    if not names:
        raise UsageError(
            "there is no linear layer that an adapter could go to",
            where="model.lora_rank",
            fix="Raise model.last_layers, or set it to null for adapters in all layers.",
        )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers for a property by its former name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(lora.seed)
        return get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=names))  # type: ignore[arg-type]
