"""One door for every model: a directory, a Hub id, a LoRA adapter, GGUF, a state dict, or the bundled one.

Only decoder language models pass; no code that came with a model is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from penchant.config import STATE_DICT_SUFFIXES, ModelConfig
from penchant.data.files import near_folder
from penchant.errors import ModelError, UsageError, did_you_mean
from penchant.models.adapter import adapter_base, merge_adapter
from penchant.models.bundled import BUNDLED_NAME, bundled_gguf, converted_folder
from penchant.models.gguf import convert_gguf
from penchant.models.quantized import four_bit_settings
from penchant.models.safe_config import forget_code, read_safe_config, read_safe_tokenizer
from penchant.models.sizes import random_model
from penchant.models.state_dict import fill_model, read_state_dict
from penchant.offline import hub_remedy
from penchant.tokens.chat import ChatFormat, chat_format

_WITHOUT_HUB = "Name a model directory, or unset it."
_WEIGHTS_HINT = "A model directory holds config.json and model.safetensors (or its shards and their index)."


@dataclass
class LoadedModel:
    """A causal language model with its tokenizer.

    Attributes:
        model: The transformers model, in evaluation mode (dropout has p = 0, see `penchant.models.trunk`).
        chat: Its chat format.
        path: The directory, file or Hub id that it was read from.
        stop_ids: Tokens that end a generated response.
        pad_id: A token that pads batches; never one of `stop_ids` where the vocabulary allows it.
    """

    model: PreTrainedModel
    chat: ChatFormat
    path: str
    stop_ids: tuple[int, ...]
    pad_id: int

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.chat.tokenizer


@dataclass(frozen=True)
class Source:
    """Where the parts of a model are read from.

    Attributes:
        name: What the user called it, as far as that is a path or a Hub id.
        path: The directory or Hub id that holds its configuration and, without a state dict, its weights.
        tokenizer: The directory or Hub id that holds its tokenizer.
        state_dict: The file that holds its weights, if they are not in `path`.
        adapters: Directories or Hub ids of adapters that are merged into it, in this order.
    """

    name: str
    path: str
    tokenizer: str
    state_dict: Path | None = None
    adapters: tuple[str, ...] = ()


def load_model(
    name: str,
    *,
    architecture: str | None = None,
    device: str = "cpu",
    bf16: bool = False,
    four_bit: bool = False,
) -> LoadedModel:
    """Load a model by name: "bundled", a directory, a LoRA adapter, a GGUF file, a Hub id or a state dict.

    An adapter is merged into its base; the model is then as if it had been trained that way.

    Args:
        name: Which model.
        architecture: The model whose configuration and tokenizer a state dict (.pth or .pt) is read with.
        device: Where its weights go.
        bf16: Weights in bf16 instead of fp32; for generation, never for training.
        four_bit: Linear layers in 4 bits instead; to be frozen under adapters.

    Raises:
        ModelError: There is no such model, it has no weights, or it is of a kind that Penchant cannot align.
        UsageError: An architecture without a state dict, or 4 bits that cannot be had.
    """
    source = find_source(name, architecture)
    config = _read_config(source.path)
    _refuse_unsupported(config, source.path)
    model = _read_four_bit(source, config, device) if four_bit else _read_source(source, config)
    tokenizer = _load_tokenizer(source.tokenizer)
    chat = chat_format(tokenizer)
    stop_ids = _stop_ids(model, chat)
    pad_id = choose_pad_id(tokenizer, stop_ids)
    if pad_id in tokenizer.all_special_ids:  # an ordinary token must not become a special one
        tokenizer.pad_token_id = pad_id
    model.config.pad_token_id = pad_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = pad_id
    policy: Any = model
    if not four_bit:
        policy.to(device, torch.bfloat16 if bf16 else torch.float32)
    return LoadedModel(policy.eval(), chat, source.name, stop_ids, pad_id)


def loaded_in_memory(model: PreTrainedModel, tokenizer: Any, name: str) -> LoadedModel:
    """Return a transformers model that its user has loaded, with its tokenizer; neither is changed.

    Args:
        model: On any device and of any floating type.
        tokenizer: Its transformers tokenizer.
        name: What errors call it.

    Raises:
        ModelError: It is of a kind that Penchant cannot align.
    """
    _refuse_unsupported(model.config, name)
    chat = chat_format(tokenizer)
    stop_ids = _stop_ids(model, chat)
    return LoadedModel(model, chat, name, stop_ids, choose_pad_id(tokenizer, stop_ids))


def architecture_for(config: ModelConfig, name: str) -> str | None:
    """Return the architecture that a configuration names for one of its models, or None when that needs none."""
    return config.architecture if Path(name).suffix in STATE_DICT_SUFFIXES else None


def resolve_model(name: str) -> str:
    """Return the directory or Hub id that holds a model's configuration: of an adapter, that of its base.

    GGUF files are converted into the cache.

    Raises:
        ModelError: The local path does not exist, or is not a model.
    """
    return find_source(name).path


def find_source(name: str, architecture: str | None = None) -> Source:
    """Return where the parts of a model are; nothing of it is read but what says so.

    Args:
        name: See `load_model`.
        architecture: Likewise.

    Raises:
        ModelError: The local path does not exist, or is not a model.
        UsageError: An architecture for what is no state dict.
    """
    if Path(name).suffix in STATE_DICT_SUFFIXES:
        if architecture is None:
            raise ModelError(
                "a state dict holds weights alone",
                where=name,
                fix="Name the model that it was trained from as model.architecture.",
            )
        plain = _folder_of(architecture)
        return Source(name, plain, plain, state_dict=Path(name))
    if architecture is not None:
        raise UsageError("only a state dict (.pth or .pt) uses it; remove it", where="model.architecture")
    return _with_adapters(name)


def _with_adapters(name: str) -> Source:
    adapters: list[str] = []
    place = name
    while (base := adapter_base(place)) is not None:
        adapters.insert(0, place)
        if base in adapters:
            raise ModelError("this adapter is its own base", where=base)
        place = base
    try:
        path = _folder_of(place)
    except ModelError as error:
        if not adapters:
            raise
        raise ModelError(
            f"the base of this adapter cannot be had ({error.what}: {place})",
            where=adapters[0],
            fix="Put it there, or correct base_model_name_or_path in the adapter's adapter_config.json.",
        ) from error
    own = [each for each in reversed(adapters) if (Path(each) / "tokenizer_config.json").is_file()]
    return Source(name if adapters else path, path, own[0] if own else path, adapters=tuple(adapters))


def _folder_of(name: str) -> str:
    """The directory (GGUF files are converted into the cache) or Hub id that `name` stands for."""
    if name == BUNDLED_NAME:
        return str(_converted(bundled_gguf()))
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError("there is no such GGUF file", where=name)
        return str(_converted(path))
    if path.is_dir():
        _check_directory(path)
        return str(path)
    if path.exists():
        raise ModelError("this file is not a model", where=name, fix=_WEIGHTS_HINT)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") != 1
    if looks_local:
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings)
        raise ModelError(f"there is no such model directory.{hint}", where=name, fix=_WEIGHTS_HINT)
    if meant := near_folder(path, "config.yaml") or near_folder(path, "config.json"):
        raise ModelError(f"there is no such run or model directory.{meant}", where=name, fix=_WEIGHTS_HINT)
    return name


def _read_source(source: Source, config: Any) -> Any:
    """The model in fp32, of its weights or its state dict, with its adapters merged."""
    if source.state_dict is None:
        model = _read_model(source.path, config)
    else:
        tensors = read_state_dict(source.state_dict)
        with torch.random.fork_rng(devices=[]):  # its random values are replaced at once
            model = random_model(config, "cpu")
        fill_model(model, tensors, where=str(source.state_dict))
        with contextlib.suppress(OSError):  # there need not be one
            model.generation_config = GenerationConfig.from_pretrained(source.path)
    for adapter in source.adapters:
        merge_adapter(model, adapter)
    if source.name != source.path:  # what adapters that are trained on it name as their base
        model.config._name_or_path = model.name_or_path = source.name
    return model


def _read_four_bit(source: Source, config: Any, device: str) -> Any:
    if source.state_dict is not None or source.adapters:
        what = "a state dict" if source.state_dict is not None else "an adapter"
        raise UsageError(
            f"{what} as the start cannot be kept in 4 bits",
            where="model.load_in_4bit",
            fix="Start from a model directory or Hub id (such as model/ of a run), or remove model.load_in_4bit.",
        )
    return _read_model(source.path, config, quantization_config=four_bit_settings(), device_map={"": device})


def _check_directory(path: Path) -> None:
    # a run directory is accepted for the model inside it
    if not (path / "config.json").is_file():
        inner = path / "model"
        fix = f"Did you mean {inner}?" if (inner / "config.json").is_file() else _WEIGHTS_HINT
        raise ModelError("this directory has no config.json", where=str(path), fix=fix)
    if not list(path.glob("*.safetensors")):
        pickled = [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")]
        what = "this model directory has no weights"
        if pickled:
            what = f"the only weights here are in a pickle format ({pickled[0].name}), which can run code"
        raise ModelError(what, where=str(path), fix=_WEIGHTS_HINT)


def _converted(gguf: Path) -> Path:
    """The safetensors directory of a GGUF file, made once; keyed by the file's content."""
    digest = hashlib.sha256()
    with gguf.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    target = converted_folder(gguf.stem, digest.hexdigest())
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
    try:
        convert_gguf(gguf, folder)
        os.replace(folder, target)
    except OSError:
        if not (target / "config.json").is_file():  # another process may have finished first
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _read_config(path: str) -> Any:
    try:
        return read_safe_config(path)
    except (
        OSError,
        TypeError,
        ValueError,
        json.JSONDecodeError,
    ) as error:
        raise _load_error(path, error) from error


def _read_model(path: str, config: Any, **settings: Any) -> Any:
    """The model in fp32 with fused attention, or with the plain one where its architecture has no fused one."""
    # Soft-capped scores (Gemma 2) have none either, but older versions of transformers do not say so.
    attentions = ["eager"] if getattr(config, "attn_logit_softcapping", None) else ["sdpa", "eager"]
    for attention in attentions:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,  # unset, transformers would ask whoever sits at the terminal
                attn_implementation=attention,
                **settings,
            )
            forget_code(model.config)
            return model
        except (OSError, ValueError, SafetensorError) as error:
            if attention == "eager" or "scaled_dot_product_attention" not in str(error):
                raise _load_error(path, error) from error
    raise AssertionError("the last attention either loads or raises")


def _refuse_unsupported(config: Any, path: str) -> None:
    fix = "Penchant aligns decoder language models (Llama, Qwen, Mistral, Gemma, Phi, OLMo and their kind)."
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{config.model_type} is an encoder-decoder model", where=path, fix=fix)
    if getattr(config, "vision_config", None) or getattr(config, "audio_config", None):
        raise ModelError(f"{config.model_type} is a vision or audio model", where=path, fix=fix)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{config.model_type} is not a causal language model", where=path, fix=fix)
    if getattr(config, "quantization_config", None):
        raise ModelError("the weights are quantized and cannot be trained as they are", where=path, fix=fix)


def _load_tokenizer(path: str) -> Any:
    try:
        return read_safe_tokenizer(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "A model directory holds tokenizer.json and tokenizer_config.json."
        raise ModelError(
            f"its tokenizer cannot be read ({_first_line(error)})",
            where=path,
            fix=hint if Path(path).exists() else hub_remedy(_WITHOUT_HUB, hint),
        ) from error


def _load_error(path: str, error: Exception) -> ModelError:
    fix = _WEIGHTS_HINT if Path(path).exists() else hub_remedy(_WITHOUT_HUB, _WEIGHTS_HINT)
    return ModelError(f"the model cannot be read ({_first_line(error)})", where=path, fix=fix)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _stop_ids(model: PreTrainedModel, chat: ChatFormat) -> tuple[int, ...]:
    stops = {chat.end_id}
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    if isinstance(configured, int):
        stops.add(configured)
    elif configured:
        stops.update(configured)
    return tuple(sorted(stops))


def choose_pad_id(tokenizer: Any, stop_ids: tuple[int, ...]) -> int:
    """Return a padding token that does not also end a response.

    A pad token that equals end-of-turn or EOS makes other tools mask the end of every response. The tokenizer's
    own pad token is kept when it is safe; otherwise <|endoftext|>, the unknown token, any other special token, or
    as a last resort an ordinary one: what is padding is known by position, never by its id.

    Raises:
        ModelError: Every token of the vocabulary ends a response.
    """
    ends = {*stop_ids, tokenizer.eos_token_id}
    candidates = [tokenizer.pad_token_id, *tokenizer.convert_tokens_to_ids(["<|endoftext|>"])]
    candidates += [tokenizer.unk_token_id, *tokenizer.all_special_ids]
    for candidate in candidates:
        if candidate is not None and candidate not in ends:
            return int(candidate)
    ordinary = next((token for token in range(len(tokenizer)) if token not in ends), None)
    if ordinary is None:
        raise ModelError("every token of its vocabulary ends a response, so none is left for padding")
    return ordinary
