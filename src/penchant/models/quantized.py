"""A frozen base in 4 bits under adapters (QLoRA, Dettmers et al. 2023, arXiv:2305.14314), by bitsandbytes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from penchant.errors import UsageError
from penchant.models.adapter import merge_adapter


def four_bit_settings() -> BitsAndBytesConfig:
    """Return how transformers is to quantize a model: NF4 in blocks, products in bf16, the head left alone.

    Raises:
        UsageError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "weights in 4 bits need the package bitsandbytes, which is not installed",
            where="model.load_in_4bit",
            fix="pip install bitsandbytes, or remove model.load_in_4bit.",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def is_four_bit(model: PreTrainedModel) -> bool:
    """Return whether weights of a model are numbers of 4 bits, two in a byte."""
    return any(parameter.dtype == torch.uint8 for parameter in model.parameters())


def merge_into_dequantized(adapters: Any, folder: Path) -> None:
    """Turn the base of adapters back into fp32 weights, then add the adapters that were saved.

    Merged into 4 bits they would be rounded away in part; so what is saved is what was trained, at full size.

    Args:
        adapters: From `penchant.models.lora.add_adapters`, on a base of 4 bits.
        folder: Where these adapters were saved.
    """
    model = adapters.unload()
    model.dequantize(dtype=torch.float32)
    merge_adapter(model, str(folder))
