"""A LoRA adapter as the start of a run: merged into its base, so that the reference is base plus adapter."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from peft.utils.save_and_load import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from penchant.config import STATE_DICT_SUFFIXES
from penchant.errors import ModelError
from penchant.models.lora import quiet_peft
from penchant.models.safe_config import check_entries
from penchant.offline import hub_remedy

ADAPTER_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"
_FILES = (*STATE_DICT_SUFFIXES, ".gguf")
_MOST_NAMED = 10


def adapter_base(name: str) -> str | None:
    """Return the model that an adapter was made for, or None when the name is that of no adapter.

    Args:
        name: A local directory, or a Hub id.

    Raises:
        ModelError: It is an adapter that cannot be used: of another kind than LoRA, without safetensors weights,
            in one folder with a whole model, or without a base.
    """
    folder = Path(name)
    found = folder / ADAPTER_FILE if folder.is_dir() else _on_the_hub(name)
    if found is None or not found.is_file():
        return None
    try:
        config = json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"its {ADAPTER_FILE} is not JSON ({error})", where=name) from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError("this adapter is not of the kind LoRA", where=name, fix="Merge it with peft first.")
    check_entries(config, where=name)
    if folder.is_dir() and (folder / "config.json").is_file():
        raise ModelError(
            f"this folder holds a whole model (config.json) and an adapter ({ADAPTER_FILE}); which one is meant?",
            where=name,
            fix="Move one of the two to a folder of its own.",
        )
    if folder.is_dir() and not (folder / _WEIGHTS_FILE).is_file():
        raise ModelError(
            f"this adapter has no {_WEIGHTS_FILE}", where=name, fix="Save it with peft as safetensors."
        )
    base = config.get("base_model_name_or_path")
    if not base:
        raise ModelError(
            "this adapter does not say which model it was made for",
            where=name,
            fix=f"Write the model's directory or Hub id to base_model_name_or_path in its {ADAPTER_FILE}.",
        )
    return str(base)


def _on_the_hub(name: str) -> Path | None:
    """An adapter's configuration by Hub id; a path, there or not, is never asked for on the Hub."""
    path = Path(name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or path.suffix in _FILES or path.exists():
        return None
    try:
        found = find_adapter_config_file(name)
    except OSError:  # whoever reads the model itself says what is wrong
        return None
    return None if found is None else Path(found)


def merge_adapter(model: PreTrainedModel, name: str) -> None:
    """Add an adapter's product to the weights of its base, in their precision; nothing of it stays apart.

    Args:
        model: The base.
        name: The adapter's directory or Hub id.

    Raises:
        ModelError: The adapter does not fit the model, or its weights cannot be read.
    """
    weights = _weights(name)
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):  # its random values are replaced at once
            config = PeftConfig.from_pretrained(str(weights.parent))
            config.base_model_name_or_path = model.name_or_path  # `adapter_base` has followed it
            adapters: Any = get_peft_model(model, config)  # type: ignore[arg-type]
            loaded = set_peft_model_state_dict(adapters, load_file(str(weights)))
    except Exception as error:  # peft, safetensors and torch each have their own kinds
        raise ModelError(f"the adapter does not fit its base ({_short(error)})", where=name) from error
    apart = {key for key, parameter in adapters.named_parameters() if "lora_" in key or "modules_to_save" in key}
    problems = [f"{key} is missing" for key in loaded.missing_keys if key in apart]
    problems += [f"{key} has no place" for key in loaded.unexpected_keys]
    if problems:
        raise ModelError(f"the adapter does not fit its base: {'; '.join(problems[:_MOST_NAMED])}", where=name)
    with _quiet():
        adapters.merge_and_unload()
    _keep_own_head(model)
    model.requires_grad_(True)


def _weights(name: str) -> Path:
    try:
        return Path(str(cached_file(name, _WEIGHTS_FILE)))
    except OSError as error:
        raise ModelError(
            f"the adapter's weights cannot be had ({_short(error)})",
            where=name,
            fix=hub_remedy("Name the adapter's directory, or unset it.", f"An adapter has {_WEIGHTS_FILE}."),
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence peft about a head of its own under a tied base: `_keep_own_head` sees to that."""
    with quiet_peft():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied", UserWarning)
        yield


def _keep_own_head(model: PreTrainedModel) -> None:
    """An adapter may bring a head or an embedding of its own: the two are then no longer tied."""
    top, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if getattr(top, "weight", None) is not getattr(embedding, "weight", None):
        model.config.tie_word_embeddings = False


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
