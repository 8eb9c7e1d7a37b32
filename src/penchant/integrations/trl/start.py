"""What a run starts from: the policy, its tokenizer and another reference, as TRL's arguments give them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from penchant.errors import UsageError
from penchant.library.models import AnyModel, is_named, write_start
from penchant.models.digest import weights_digest
from penchant.models.load import load_model, resolve_model
from penchant.processes import done_by_first
from penchant.tokens.chat import ChatFormat, chat_format
from penchant.workflow.inspect import load_chat


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        model: A name, or a loaded model.
        tokenizer: Of a loaded model; None beside a name, which has its own.
        chat: The tokenizer's format.
        reference: Another model to be the reference, or None: the policy as it begins.
        label: The model's name, for the run directory's.
        model_type: Of its configuration.
    """

    model: AnyModel
    tokenizer: Any
    chat: ChatFormat
    reference: AnyModel | None
    label: str
    model_type: str


def find_start(model: Any, tokenizer: Any, ref_model: Any, router_aux_loss_coef: float | None) -> Start:
    """Return where a run starts.

    Args:
        model: TRL's `model`.
        tokenizer: TRL's `processing_class`.
        ref_model: TRL's `ref_model`.
        router_aux_loss_coef: Of the arguments.

    Raises:
        UsageError: One of them is nothing that Penchant could train or read.
        ModelError: A named model is not there, or a tokenizer has no format.
    """
    if ref_model is not None and ref_model is model:
        raise UsageError("model and ref_model are the same object", fix="Leave out ref_model: it is the start.")
    label = str(model) if isinstance(model, str | Path) else getattr(model, "name_or_path", "") or "model"
    if isinstance(model, str | Path) and tokenizer is not None:
        model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=False)
    elif not isinstance(model, str | Path) and tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(label, trust_remote_code=False)
    if tokenizer is not None and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # as TRL does, and as the caller will find it
    named = is_named(model, tokenizer)
    config: Any = (
        AutoConfig.from_pretrained(resolve_model(str(model)), trust_remote_code=False)
        if named
        else _config_of(model)
    )
    if getattr(config, "quantization_config", None) is not None:
        raise UsageError("quantized weights cannot be trained", where="model", fix="Load the model unquantized.")
    _check_mixture(config, router_aux_loss_coef)
    chat = load_chat(str(model)) if named else chat_format(copy.deepcopy(tokenizer))
    reference = _reference(model, ref_model, named=named)
    return Start(model, tokenizer, chat, reference, Path(label).name, config.model_type)


def _config_of(model: Any) -> Any:
    return model.config


def _check_mixture(config: Any, router_aux_loss_coef: float | None) -> None:
    """Refuse a mixture of experts whose auxiliary loss TRL would add."""
    text: Any = config.get_text_config()
    weight = getattr(text, "router_aux_loss_coef", 0.0) if router_aux_loss_coef is None else router_aux_loss_coef
    if hasattr(text, "output_router_logits") and weight:
        raise UsageError(
            f"TRL would add this model's auxiliary loss with weight {weight}, and Penchant does not",
            where="model",
            fix="Give DPOConfig(router_aux_loss_coef=0.0), with which TRL leaves it out too.",
        )


def _reference(model: AnyModel, given: Any, *, named: bool) -> AnyModel | None:
    """The reference, if it is another model than the policy."""
    if given is None or isinstance(given, str | Path):
        return None if given is None or str(given) == str(model) else str(given)
    if not isinstance(given, PreTrainedModel):
        raise UsageError(f"ref_model is a {type(given).__name__}", fix="Give a name or a transformers model.")
    own = load_model(str(model)).model if named else model
    assert isinstance(own, PreTrainedModel)
    return None if weights_digest(own) == weights_digest(given) else given


def take_over(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Put trained weights into the caller's model, where TRL's trainer would have left them; its kind stays."""
    with torch.no_grad():
        model.load_state_dict(weights)


def reference_in(start: Start, folder: Path, *, resume: bool) -> str | None:
    """Return the name of the reference, written to a folder first if it is in memory; None = the policy itself."""
    if start.reference is None or isinstance(start.reference, str | Path):
        return None if start.reference is None else str(start.reference)
    given, tokenizer = start.reference, start.tokenizer or start.chat.tokenizer
    done_by_first(lambda: write_start(given, tokenizer, folder, resume=resume))
    return str(folder)
