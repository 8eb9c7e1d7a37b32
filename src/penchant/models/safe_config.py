"""What a model's configuration files may say: looked at here before transformers acts on them.

These files come with the model, so whoever made it wrote them. They can name code to fetch and run (`auto_map`,
attention kernels by Hub id), classes that are no tokenizers, and sizes that no machine holds. Only architectures
that transformers itself maps to a causal language model pass; code of the model's own is never run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, get_tokenizer_config

from penchant.errors import ModelError

MAX_CONFIG_BYTES = 8 * 2**20
MAX_DEPTH = 12

_IMPLEMENTATIONS = {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "grouped_mm"}
_GENERIC_TOKENIZERS = {"TokenizersBackend", "PythonBackend", "SentencePieceBackend", "PreTrainedTokenizer"}
_OF_SEVERAL = {"RagTokenizer"}  # opens two tokenizers by names of its own
_LIMITS = {  # far above every model there is
    "vocab_size": 10**7,
    "hidden_size": 10**6,
    "n_embd": 10**6,
    "intermediate_size": 10**7,
    "num_hidden_layers": 10**4,
    "n_layer": 10**4,
    "num_attention_heads": 10**5,
    "num_key_value_heads": 10**5,
    "head_dim": 10**5,
    "max_position_embeddings": 10**9,
    "n_positions": 10**8,
    "num_local_experts": 10**5,
    "num_experts": 10**5,
}
_MAX_PARAMETERS = 10**13
_JSON_FILES = ("config.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json")
_INDEX = "model.safetensors.index.json"
_KINDS = "Penchant aligns decoder language models (Llama, Qwen, Mistral, Gemma, Phi, OLMo and their kind)."
_NO_CODE = (
    "Penchant runs no code of a model's own. Remove the entry, or use a model that transformers itself knows."
)


def read_safe_config(path: str) -> Any:
    """Return transformers' configuration of a model, once its files have been looked at.

    Args:
        path: A directory or a Hub id.

    Raises:
        ModelError: The files ask for what no model may.
        OSError: There is no configuration. Like ValueError and TypeError: transformers cannot read it.
    """
    _check_files(path)
    raw = _config_dict(path)
    check_config(raw, where=path)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    forget_code(config)
    return config


def forget_code(config: Any) -> None:
    """Take the names of a model's own code out of its configuration: unused, they are not to be saved again."""
    if hasattr(config, "auto_map"):
        del config.auto_map


def read_safe_tokenizer(path: str) -> Any:
    """Return the tokenizer of a directory or Hub id, once its files have been looked at.

    Raises:
        ModelError: The files ask for what no tokenizer may.
        OSError: There is none. Like ValueError, KeyError and TypeError: transformers cannot read it.
    """
    _check_files(path)
    if Path(path, "config.json").is_file() or not Path(path).is_dir():
        try:
            check_entries(_config_dict(path), where=path)
        except OSError:
            pass  # a tokenizer may stand alone
    described = get_tokenizer_config(path)
    check_entries(described, where=path)
    check_tokenizer_class(described.get("tokenizer_class"), where=path)
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    tokenizer.init_kwargs.pop("auto_map", None)
    return tokenizer


def check_config(config: Mapping[str, Any], *, where: str) -> None:
    """Accept what a config.json holds.

    Raises:
        ModelError: An architecture that is not transformers' own for causal language models, a foreign
            implementation, or a size that is none.
    """
    check_entries(config, where=where)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise ModelError("the model cannot be read (its config.json names no model_type)", where=where, fix=_KINDS)
    if kind not in CONFIG_MAPPING:
        fix = _NO_CODE if "auto_map" in config else _KINDS
        raise ModelError(f"transformers knows no model of the kind {kind[:80]!r}", where=where, fix=fix)
    if config.get("is_encoder_decoder"):
        raise ModelError(f"{kind} is an encoder-decoder model", where=where, fix=_KINDS)
    if config.get("vision_config") or config.get("audio_config"):
        raise ModelError(f"{kind} is a vision or audio model", where=where, fix=_KINDS)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{kind} is not a causal language model", where=where, fix=_KINDS)
    check_tokenizer_class(config.get("tokenizer_class"), where=where)


def check_entries(config: Mapping[str, Any], *, where: str) -> None:
    """Accept the entries of a configuration, whichever file it is from and however deep they stand.

    Raises:
        ModelError: An implementation by Hub id, a module to import, or a size that is none.
    """
    for key, value in _entries(config, where):
        name = key.removesuffix("_internal")
        if name.endswith("_implementation") and not _is_known(value):
            raise ModelError(f"{key} = {str(value)[:80]!r} is no implementation of transformers", where=where)
        if key in ("megatron_config", "megatron_core") and value not in (None, "megatron.core"):
            raise ModelError(f"{key} would have a module imported", where=where, fix=_NO_CODE)
        if key in _LIMITS and value is not None and not _is_size(value, _LIMITS[key]):
            raise ModelError(f"{key} = {str(value)[:80]} is no size", where=where)
    heads, shared = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(shared, int) and shared and heads % shared:
        raise ModelError(
            f"num_attention_heads = {heads} is no multiple of num_key_value_heads = {shared}", where=where
        )
    layers = config.get("num_hidden_layers") or 1
    width, words = config.get("hidden_size") or 1, config.get("vocab_size") or 1
    inner = config.get("intermediate_size") or 1
    if all(isinstance(size, int) for size in (layers, width, words, inner)) and (
        words * width + layers * width * (width + inner) > _MAX_PARAMETERS
    ):
        raise ModelError("its config.json describes more than 10^13 parameters", where=where)


def check_tokenizer_class(name: object, *, where: str) -> None:
    """Accept the name of a tokenizer's class: one that transformers lists, or one that it does not have at all.

    The latter is read as a plain tokenizer.json. Anything else of transformers, such as a model, is no tokenizer.

    Raises:
        ModelError: It is something else.
    """
    if name is None:
        return
    if not isinstance(name, str):
        raise ModelError("tokenizer_class is not a name", where=where)
    plain = name.removesuffix("Fast")
    listed = {str(each).removesuffix("Fast") for each in _flat(TOKENIZER_MAPPING_NAMES.values())}
    if plain in (listed | _GENERIC_TOKENIZERS) - _OF_SEVERAL:
        return
    if {name, plain, f"{plain}Fast"} & set(dir(transformers)):
        raise ModelError(f"tokenizer_class = {name[:80]!r} is no tokenizer of transformers", where=where)


def _config_dict(path: str) -> dict[str, Any]:
    config, _ = PretrainedConfig.get_config_dict(path)
    if not isinstance(config, dict):
        raise ModelError("its config.json is no object", where=path)
    return config


def _check_files(path: str) -> None:
    """Look at the size and depth of a directory's JSON files, and at where its weights are said to be."""
    folder = Path(path)
    for name in (*_JSON_FILES, _INDEX):
        file = folder / name
        if not file.is_file():
            continue
        if name != _INDEX and file.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelError(f"{name} has more than {MAX_CONFIG_BYTES:,} bytes", where=path)
        try:
            content = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"{name} is not JSON that can be read ({type(error).__name__})", where=path
            ) from error
        if not isinstance(content, dict):
            raise ModelError(f"{name} is no object", where=path)
        if name == _INDEX:
            _check_index(content, path)


def _check_index(index: Mapping[str, Any], path: str) -> None:
    places = index.get("weight_map")
    if not isinstance(places, dict):
        raise ModelError(f"{_INDEX} has no weight_map", where=path)
    for place in set(map(str, places.values())):
        if Path(place).name != place or not place.endswith(".safetensors"):
            raise ModelError(f"{_INDEX} names {place[:80]!r}, which is no safetensors file beside it", where=path)


def _entries(value: Any, where: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > MAX_DEPTH:
        raise ModelError(f"a configuration is nested deeper than {MAX_DEPTH}", where=where)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _entries(inner, where, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner, where, depth + 1)


def _is_known(implementation: Any) -> bool:
    if isinstance(implementation, Mapping):
        return all(_is_known(value) for value in implementation.values())
    return implementation is None or implementation in _IMPLEMENTATIONS


def _is_size(value: Any, limit: int) -> bool:
    if isinstance(value, list):  # some architectures give one a layer
        return all(_is_size(each, limit) for each in value)
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def _flat(names: Any) -> Iterator[Any]:
    for name in names:
        if isinstance(name, (tuple, list)):
            yield from name
        else:
            yield name
