"""How large a model is and what its layers keep for the backward pass, found without reading a weight.

The whole model is built on the meta device: shapes without memory. What one layer keeps is counted on a model of
the same shape with a few layers, random weights and a small vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from penchant.errors import ModelError
from penchant.models.freeze import choose_trainable, decoder, head, layers
from penchant.models.lora import Lora
from penchant.models.safe_config import read_safe_config
from penchant.offline import hub_remedy

_BYTES = {torch.float64: 8, torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}


@dataclass(frozen=True)
class ModelSizes:
    """What of a model decides memory and time.

    Attributes:
        total: All parameters of the policy as it is trained, an untied head and adapters included.
        trained: Parameters that are trained.
        layers: Decoder layers.
        frozen_layers: Of these below every trained parameter.
        layer: Parameters of one layer, adapters included.
        width: Of the hidden state.
        vocabulary: Rows of the head.
        attention_width: Query heads x head size.
        head_trained: Whether the head is trained.
        embedding_trained: Whether the input embedding is trained.
        untied: Whether the head is given weights of its own.
        stored_bytes: Of a parameter in the model's files.
        linear: Parameters of the weights of linear layers, the head and adapters left out: what 4 bits hold.
    """

    total: int
    trained: int
    layers: int
    frozen_layers: int
    layer: int
    width: int
    vocabulary: int
    attention_width: int
    head_trained: bool
    embedding_trained: bool
    untied: bool
    stored_bytes: int
    linear: int

    @property
    def head(self) -> int:
        """Parameters of the head's weight."""
        return self.vocabulary * self.width

    @property
    def own_parameters(self) -> int:
        """Parameters that the model's files do not hold: an untied head's copy is one of them."""
        return self.head if self.untied else 0


def read_model_config(path: str) -> Any:
    """Return transformers' configuration of a model; its weights are not opened.

    Raises:
        ModelError: There is none that transformers can read.
    """
    try:
        return read_safe_config(path)
    except (OSError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"the model cannot be read ({lines[0][:200]})", where=path, fix=_how_to_get_it(path)
        ) from error


def _how_to_get_it(path: str) -> str:
    """What to do about a configuration that cannot be read."""
    if Path(path).exists():
        return "A model directory holds config.json, as transformers writes it."
    fix = f'Fetch it where there is a network (hf download {path}), or name a model directory, or "bundled".'
    return hub_remedy(fix, fix)


def model_sizes(
    config: Any,
    last_layers: int | None,
    lora: Lora | None = None,
    *,
    patterns: Sequence[str] = (),
    keep_tied: bool = False,
) -> ModelSizes:
    """Return the sizes of a model of this configuration and of its trained part, from the meta device.

    Args:
        config: From `read_model_config`; it is not changed.
        last_layers: As for `penchant.models.freeze.choose_trainable`.
        lora: Likewise.
        patterns: Likewise.
        keep_tied: Likewise.

    Raises:
        ModelError: It is no model that Penchant can align.
        UsageError: As `choose_trainable` raises it.
    """
    model = random_model(config, "meta")
    embedding: Any = model.get_input_embeddings()
    linear = sum(weight.numel() for weight in _linear_weights(model))
    part = choose_trainable(model, last_layers, lora, patterns=patterns, keep_tied=keep_tied)
    stack: Any = layers(decoder(model))
    heads = config.num_attention_heads
    top = head(model).weight
    return ModelSizes(
        total=part.total if lora is None else part.total + part.trained,
        trained=part.trained,
        layers=len(stack),
        frozen_layers=part.frozen_layers,
        layer=sum(parameter.numel() for parameter in stack[-1].parameters()),
        width=top.shape[1],
        vocabulary=top.shape[0],
        attention_width=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
        head_trained=top.requires_grad,
        embedding_trained=embedding.weight.requires_grad,
        untied=part.untied,
        stored_bytes=_BYTES.get(getattr(config, "dtype", None) or torch.float32, 4),
        linear=linear,
    )


def linear_widths(config: Any) -> int:
    """Return how many numbers the linear layers of a decoder layer read and write for a token, together.

    That is about what the layer keeps for its backward pass: what a linear layer reads it keeps, and what it
    writes is mostly kept by what comes after. For a Llama of width h, inner width i, queries a and keys k it comes
    to 7 h + 2 a + 2 k + 3 i, and 6 h + 2 a + 2 k + 4 i are kept.
    """
    model = random_model(thin_config(config, 1, 2), "meta")
    return sum(sum(weight.shape) for weight in _linear_weights(model))


def _linear_weights(model: PreTrainedModel) -> list[torch.Tensor]:
    """Those of all linear layers but the head."""
    top = head(model)
    return [
        module.weight for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not top
    ]


def thin_config(config: Any, depth: int, vocabulary: int) -> Any:
    """Return the configuration of a model with layers of the same shape, but few, and another vocabulary."""
    thin = copy.deepcopy(config)
    kinds = getattr(thin, "layer_types", None)
    if kinds is not None:
        thin.layer_types = list(kinds[len(kinds) - depth :])
    thin.num_hidden_layers = depth
    thin.vocab_size = vocabulary
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(thin, name, None)  # they need not be part of the vocabulary any more
    return thin


def random_model(config: Any, device: str) -> PreTrainedModel:
    """Return a model in fp32 with random weights, with the attention that a loaded one would have.

    Raises:
        ModelError: transformers has no causal language model for this configuration.
    """
    attentions = ["eager"] if getattr(config, "attn_logit_softcapping", None) else ["sdpa", "eager"]
    for attention in attentions:
        try:
            with torch.device(device):
                made: Any = AutoModelForCausalLM.from_config(
                    copy.deepcopy(config), dtype=torch.float32, attn_implementation=attention
                )
            return made.eval()
        except ValueError as error:
            if attention == "eager" or "scaled_dot_product_attention" not in str(error):
                raise ModelError(f"{config.model_type} is not a causal language model ({error})"[:300]) from error
    raise AssertionError("the last attention either builds or raises")
