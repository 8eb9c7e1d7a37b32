"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) by peft, put into a model and taken out again.

A fresh adapter adds exactly nothing, its second factor being zero: the untouched policy is the reference here too.
That holds for rsLoRA (Kalajdzievski 2023, arXiv:2312.03732), which scales otherwise, and for DoRA (Liu et al.
2024, arXiv:2402.09353), whose trained row lengths begin as the lengths that the rows have.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from penchant.config import ModelConfig
from penchant.errors import UsageError
from penchant.models.names import match_all


@dataclass(frozen=True)
class Lora:
    """What adapters are asked for.

    Attributes:
        rank: Width of the two factors.
        alpha: The product of the factors is added alpha / rank times, with rslora alpha / sqrt(rank) times.
        seed: Of the first factor's random values.
        variant: Which kind of adapter.
        targets: Patterns of the linear layers that get one, see `penchant.models.names`; empty means all.
    """

    rank: int
    alpha: float
    seed: int
    variant: Literal["lora", "rslora", "dora"] = "lora"
    targets: tuple[str, ...] = ()


def configured_lora(config: ModelConfig, seed: int) -> Lora | None:
    """Return the adapters that a configuration asks for, or None when it asks for none."""
    if config.lora_rank is None:
        return None
    return Lora(config.lora_rank, config.lora_alpha, seed, config.lora_variant, config.lora_targets or ())


def adapted_layers(model: PreTrainedModel, layers: list[nn.Module], targets: Sequence[str]) -> list[str]:
    """Return the names of the linear layers inside some decoder layers that the patterns name; all without any.

    The head and the embedding never get an adapter: the engine computes them from their weights alone.

    Raises:
        UsageError: There is no linear layer in the layers, or a pattern names none of them.
    """
    inside = {id(module) for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)}
    names = [name for name, module in model.named_modules() if id(module) in inside]
    if not names:
        raise UsageError(
            "there is no linear layer that an adapter could go to",
            where="model.lora_rank",
            fix="Raise model.last_layers, or set it to null for adapters in all layers.",
        )
    if not targets:
        return names
    return match_all(targets, names, where="model.lora_targets", what="linear layer of the decoder layers in use")


def add_adapters(model: PreTrainedModel, layers: list[nn.Module], lora: Lora) -> Any:
    """Give linear layers inside some decoder layers an adapter and freeze everything else.

    Returns:
        peft's model, which knows how to save and to merge the adapters; `model` itself now has them inside.

    Raises:
        UsageError: See `adapted_layers`.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        target_modules=adapted_layers(model, layers, lora.targets),
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
    )
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(lora.seed)
        return get_peft_model(model, config)  # type: ignore[arg-type]


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence peft asking transformers for a property by its former name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
