"""What a model's architecture lets the engine do, decided before anything is computed."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

# Decoders whose attention goes through transformers' interface with nothing but queries, keys, values and a
# scale. Each is compared with its own plain forward in the tests; a family that is not listed is computed in
# separate sequences, which is always right.
_PLAIN_ATTENTION = frozenset(
    {"llama", "qwen2", "qwen3", "mistral", "phi3", "olmo2", "mixtral", "qwen3_moe", "olmoe"}
)


def no_prefix_sharing_reason(model: PreTrainedModel, max_tokens: int) -> str | None:
    """Return why the prompt cannot be shared between responses on this model, or None when it can.

    Args:
        model: The model.
        max_tokens: Longest prompt + response; a sliding window at least as long hides nothing.
    """
    config: Any = model.config
    if config.model_type not in _PLAIN_ATTENTION:
        return f"{config.model_type} is not among the families checked for it"
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    slides = window is not None and (types == {"full_attention"} or "sliding_attention" in types)
    if getattr(config, "use_sliding_window", True) is False:
        slides = False
    if slides and window is not None and window < max_tokens:
        return f"its attention slides over {window} tokens, fewer than {max_tokens}"
    if types - {"full_attention", "sliding_attention"}:
        return f"its layers are of the kinds {', '.join(sorted(types))}"
    if getattr(config, "output_router_logits", False):
        return "its mixture of experts adds a balance loss that counts every prompt"
    return None
