"""Model families that can be written as GGUF and read back: their tensors' names and layout, and their sizes.

A family is here when transformers' GGUF reader and llama.cpp give its log-probabilities again; everything else is
refused by name, before anything is written. Both readers take what is not in the file from their own defaults, so
whatever a configuration says that the format (or one of the readers) does not carry is refused as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import torch
from torch import Tensor

from penchant.errors import ModelError

KNOWN = ("llama", "mistral", "qwen2", "qwen3")
_QWEN3_HEAD = 128  # what transformers' reader takes for every Qwen3, whatever the file says


@dataclass(frozen=True)
class Family:
    """How a model is laid out in a GGUF file.

    Attributes:
        architecture: llama.cpp's name of it.
        heads: Of queries.
        key_value_heads: Of keys and values.
        head_size: Width of one head.
        interleaved: Whether the rows of query and key weights lie in pairs of rotary halves, as llama.cpp wants
            them of a "llama", rather than one half behind the other, as transformers has them.
    """

    architecture: str
    heads: int
    key_value_heads: int
    head_size: int
    interleaved: bool


def family_of(config: Any, *, where: str) -> Family:
    """Return how a model of this configuration is written as GGUF.

    Args:
        config: transformers' configuration.
        where: What the user called the model, for errors.

    Raises:
        ModelError: Its family, or something that its configuration says, cannot be written and read back.
    """
    kind = config.model_type
    if kind not in KNOWN:
        raise ModelError(
            f"GGUF of the family {kind} is not written: only what was proven by reading it back is "
            f"({', '.join(KNOWN)})",
            where=where,
            fix="penchant export --to hf writes every family; llama.cpp's own converter may know this one.",
        )
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    problems = list(_problems(config, size))
    if problems:
        raise ModelError(
            f"this {kind} cannot be written as GGUF so that every reader gives its numbers again: {problems[0]}",
            where=where,
            fix="penchant export --to hf writes it as it is.",
        )
    return Family(
        "llama" if kind == "mistral" else kind,
        heads,
        int(config.num_key_value_heads or heads),
        size,
        interleaved=kind in ("llama", "mistral"),
    )


def _problems(config: Any, head_size: int) -> Iterator[str]:
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        yield f"rotary positions ({str(rope['rope_type'])[:40]!r}) that transformers' reader leaves out"
    if config.hidden_act != "silu":
        yield f"the activation {str(config.hidden_act)[:40]!r}, where the format means silu"
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < config.max_position_embeddings:
        yield f"a sliding window of {window} tokens"
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        yield "biases that transformers' reader leaves out"
    if config.model_type == "qwen3" and head_size != _QWEN3_HEAD:
        yield f"heads of {head_size}, where transformers' reader takes {_QWEN3_HEAD}"
    if config.model_type == "qwen2" and head_size * config.num_attention_heads != config.hidden_size:
        yield f"heads of {head_size} that do not fill the width {config.hidden_size}"


def add_sizes(writer: gguf.GGUFWriter, config: Any, family: Family) -> None:
    """Write a model's sizes and constants into the file's metadata."""
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(family.heads)
    writer.add_head_count_kv(family.key_value_heads)
    writer.add_key_length(family.head_size)
    writer.add_value_length(family.head_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(family.head_size)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_vocab_size(config.vocab_size)


def tensors_of(model: Any, family: Family, *, where: str) -> Iterator[tuple[str, str, Tensor]]:
    """Yield each tensor as (its name in the file, its name in transformers, its values as the file lays them out).

    A head that is tied to the embedding is left out: readers take the embedding where there is none.

    Raises:
        ModelError: A tensor has no name in this family.
    """
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[family.architecture]
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, values in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(f"the tensor {name[:120]!r} has no name in GGUF", where=where)
        yield found, name, laid_out(values, name, family)


def laid_out(values: Tensor, name: str, family: Family) -> Tensor:
    """Return a tensor as the file holds it: of a "llama", queries and keys with their rotary halves paired."""
    if not family.interleaved:
        return values
    if ".q_proj." in name:
        return _paired(values, family.heads)
    return _paired(values, family.key_value_heads) if ".k_proj." in name else values


def _paired(values: Tensor, heads: int) -> Tensor:
    rows = values.shape[0] // heads
    return values.reshape(heads, 2, rows // 2, *values.shape[1:]).transpose(1, 2).reshape(values.shape)


def as_float32(values: Tensor) -> Tensor:
    """Return a tensor's values on the CPU in fp32, in one piece."""
    return values.detach().to("cpu", torch.float32).contiguous()
