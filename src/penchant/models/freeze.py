"""Which parameters are trained, and what follows from that for the frozen layers below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from penchant.errors import ModelError, UsageError
from penchant.models.lora import Lora, add_adapters


@dataclass(frozen=True)
class TrainablePart:
    """What is trained, for the record and for the console.

    Attributes:
        trained: Parameters that are trained.
        total: All parameters (of the policy as it will be saved).
        frozen_layers: Decoder layers below every trained parameter; their outputs never change.
        untied: Whether the head was given weights of its own.
        adapters: peft's model, when adapters are what is trained.
    """

    trained: int
    total: int
    frozen_layers: int
    untied: bool
    adapters: Any = None

    @property
    def share(self) -> float:
        """Trained fraction of all parameters."""
        return self.trained / self.total


def decoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model's decoder stack: embeddings, `layers` and final norm, without the head."""
    stack = getattr(model, model.base_model_prefix, None)
    if stack is None or not isinstance(getattr(stack, "layers", None), nn.ModuleList):
        raise ModelError(f"{type(model).__name__} has no list of decoder layers that Penchant knows")
    return stack


def layers(stack: PreTrainedModel) -> list[nn.Module]:
    """Return the decoder layers of a stack, lowest first."""
    return list(stack.layers)  # type: ignore[arg-type]


def head(model: PreTrainedModel) -> nn.Linear:
    """Return the layer that turns hidden states into vocabulary scores."""
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"{type(model).__name__} has no linear head")
    return layer


def choose_trainable(model: PreTrainedModel, last_layers: int | None, lora: Lora | None = None) -> TrainablePart:
    """Make all parameters trainable, or only the last layers, the final norm and the head; or adapters alone.

    With tied embeddings a trained head would train the input embedding too, and with it everything below; so
    for `last_layers` the head gets a copy of its own and `tie_word_embeddings` becomes false. Adapters go into the
    last layers, or all of them, and nothing else is trained.

    Raises:
        UsageError: There are fewer layers than asked for.
    """
    stack = decoder(model)
    count = len(layers(stack))
    if last_layers is not None and last_layers > count:
        raise UsageError(
            f"model.last_layers = {last_layers}, but the model has {count} layers",
            fix="Use a smaller number, or null to train the whole model.",
        )
    last = layers(stack)[count - (count if last_layers is None else last_layers) :]
    total = sum(parameter.numel() for parameter in model.parameters())
    untied, adapters = False, None
    if lora is not None:
        adapters = add_adapters(model, last, lora)
    elif last_layers is None:
        model.requires_grad_(True)
    else:
        untied = untie_head(model)
        total = sum(parameter.numel() for parameter in model.parameters())
        model.requires_grad_(False)
        for module in (head(model), final_norm(stack), *last):
            module.requires_grad_(True)
    return TrainablePart(
        trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        total=total,
        frozen_layers=frozen_layers(model),
        untied=untied,
        adapters=adapters,
    )


def final_norm(stack: PreTrainedModel) -> nn.Module:
    """Return the norm between the last layer and the head."""
    norm = getattr(stack, "norm", None) or getattr(stack, "final_layernorm", None)
    if not isinstance(norm, nn.Module):
        raise ModelError(f"{type(stack).__name__} has no final norm that Penchant knows")
    return norm


def untie_head(model: PreTrainedModel) -> bool:
    """Give a tied head its own copy of the embedding; return whether it was tied."""
    layer, embedding = head(model), model.get_input_embeddings()
    if layer.weight.data_ptr() != embedding.weight.data_ptr():  # type: ignore[operator,union-attr]
        return False
    layer.weight = nn.Parameter(layer.weight.detach().clone())
    model.config.tie_word_embeddings = False
    return True


def frozen_layers(model: PreTrainedModel) -> int:
    """Return how many decoder layers lie below every trained parameter, judged from the parameters alone."""
    stack = decoder(model)
    upper = {id(parameter) for parameter in head(model).parameters()}
    upper |= {id(parameter) for parameter in final_norm(stack).parameters()}
    upper -= {id(parameter) for parameter in model.get_input_embeddings().parameters()}  # a tied head is no head
    for index, layer in enumerate(layers(stack)):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            first_trained = index
            break
    else:
        first_trained = len(layers(stack))
    inside = {id(parameter) for layer in layers(stack) for parameter in layer.parameters()}
    below = [p for p in model.parameters() if id(p) not in inside and id(p) not in upper]
    return 0 if any(parameter.requires_grad for parameter in below) else first_trained
