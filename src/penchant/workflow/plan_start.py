"""Where a planned run begins: a model's configuration and tokenizer, whether its weights are here or not."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from penchant.config import ModelConfig
from penchant.errors import ModelError
from penchant.models.load import architecture_for, resolve_model
from penchant.models.sizes import ModelSizes, read_model_config

_HUB_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        source: transformers' configuration of the model.
        tokenizer: What `penchant.workflow.inspect.load_chat` reads the chat format of.
        missing: What of the model is not on this machine and what to do about it; "" when nothing is missing.
    """

    source: Any
    tokenizer: str
    missing: str = ""

    @property
    def whole(self) -> bool:
        """Whether the weights are here too."""
        return not self.missing

    def after(self, sizes: ModelSizes) -> Start:
        """Return the start of what begins from the model that training this one leaves: fp32, untied if it was."""
        source = copy.deepcopy(self.source)
        source.dtype = torch.float32
        if sizes.untied:
            source.tie_word_embeddings = False
        return Start(source, self.tokenizer, self.missing)


def read_start(config: ModelConfig, name: str) -> Start:
    """Return where a run begins, as far as it is on this machine; no weight is read.

    Args:
        config: The section `model`.
        name: Its `path`, or its `reference`.

    Raises:
        ModelError: Not even the model's configuration is here, and it cannot be fetched.
    """
    architecture = architecture_for(config, name)
    if architecture is not None:
        missing = "" if Path(name).is_file() else f"{name} is not here: put it there before the run."
        start = read_start(config, architecture)
        return Start(start.source, architecture, missing)
    try:
        place, missing = resolve_model(name), ""
    except ModelError as error:
        if not (Path(name) / "config.json").is_file():
            raise
        place, missing = name, f"{name} cannot be trained as it is: {error.what}."
    source = read_model_config(place)
    if not missing and not Path(place).exists() and not _is_cached(place):
        missing = f"The weights of {place} are not on this machine; before the run: hf download {place}."
    return Start(source, name, missing)


def _is_cached(name: str) -> bool:
    """Whether the weights of a Hub id were fetched before."""
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in _HUB_WEIGHTS)
