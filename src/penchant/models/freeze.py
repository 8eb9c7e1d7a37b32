"""Which parameters are trained, and what follows from that for the frozen layers below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from torch import nn
from transformers import PreTrainedModel

from penchant.config import ModelConfig
from penchant.errors import ModelError, UsageError
from penchant.models.lora import Lora, add_adapters, configured_lora
from penchant.models.names import match_all


@dataclass(frozen=True)
class TrainablePart:
    """What is trained, for the record and for the console.

    Attributes:
        trained: Parameters that are trained.
        total: All parameters (of the policy as it will be saved).
        frozen_layers: Decoder layers below every trained parameter; their outputs never change.
        untied: Whether the head was given weights of its own.
        kept_tied: Whether a tied head is trained with the embedding that it is tied to, as was asked for.
        adapters: peft's model, when adapters are what is trained.
    """

    trained: int
    total: int
    frozen_layers: int
    untied: bool
    kept_tied: bool = False
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


class Choice(TypedDict):
    """What is to be trained: the arguments of `choose_trainable`."""

    last_layers: int | None
    lora: Lora | None
    patterns: tuple[str, ...]
    keep_tied: bool


def configured_choice(config: ModelConfig, seed: int) -> Choice:
    """Return what a configuration says is to be trained.

    Args:
        config: The section `model`.
        seed: Of the adapters' random values.
    """
    return Choice(
        last_layers=config.last_layers,
        lora=configured_lora(config, seed),
        patterns=config.train or (),
        keep_tied=config.keep_tied,
    )


def choose_trainable(
    model: PreTrainedModel,
    last_layers: int | None,
    lora: Lora | None = None,
    *,
    patterns: Sequence[str] = (),
    keep_tied: bool = False,
) -> TrainablePart:
    """Make all parameters trainable, or upper layers with norm and head, or what patterns name, or adapters.

    With tied embeddings a trained head would train the input embedding too, and with it everything below; so the
    head gets a copy of its own and `tie_word_embeddings` becomes false, unless the embedding is to be trained
    anyway. Adapters go into the last layers, or all of them, and nothing else is trained.

    Args:
        model: The policy.
        last_layers: How many upper layers; None means all, or what `patterns` name.
        lora: Adapters instead of weights.
        patterns: What is trained, see `penchant.models.names`; empty means what `last_layers` says.
        keep_tied: Leave a tied head tied although it is trained.

    Raises:
        UsageError: There are fewer layers than asked for, a pattern names nothing, or there is no tie to keep.
    """
    stack = decoder(model)
    count = len(layers(stack))
    if last_layers is not None and last_layers > count:
        raise UsageError(
            f"model.last_layers = {last_layers}, but the model has {count} layers",
            fix="Use a smaller number, or null to train the whole model.",
        )
    last = layers(stack)[count - (count if last_layers is None else last_layers) :]
    total, untied, adapters = model.num_parameters(), False, None
    if lora is not None:
        adapters = add_adapters(model, last, lora)
    elif patterns:
        untied = _train_only(model, set(trained_names(model, patterns)), keep_tied=keep_tied)
    elif last_layers is None:
        model.requires_grad_(True)
    else:
        untied = _train_only(model, _names_in(model, [head(model), final_norm(stack), *last]), keep_tied=keep_tied)
    return TrainablePart(
        trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        total=model.num_parameters() if untied else total,
        frozen_layers=frozen_layers(model),
        untied=untied,
        kept_tied=keep_tied,
        adapters=adapters,
    )


def trained_names(model: PreTrainedModel, patterns: Sequence[str]) -> list[str]:
    """Return the names of the parameters that patterns name; a tied head has a name of its own.

    Raises:
        UsageError: A pattern names no parameter.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return match_all(patterns, names, where="model.train", what="parameter of this model")


def _names_in(model: PreTrainedModel, modules: Sequence[nn.Module]) -> set[str]:
    """The names of the parameters of some modules, under these modules' own names."""
    wanted = {id(module) for module in modules}
    return {
        f"{name}.{inner}"
        for name, module in model.named_modules()
        if id(module) in wanted
        for inner, _ in module.named_parameters()
    }


def _train_only(model: PreTrainedModel, names: set[str], *, keep_tied: bool) -> bool:
    """Train the parameters of these names and no others; return whether the head was untied for it."""
    of_head = bool(names & _names_in(model, [head(model)]))
    of_embedding = bool(names & _names_in(model, [model.get_input_embeddings()]))  # type: ignore[list-item]
    if keep_tied and not (of_head and is_tied(model)):
        raise UsageError(
            "the head of this model is not tied to its embedding"
            if of_head
            else "no pattern of model.train names the head, so nothing would untie it",
            where="model.keep_tied",
            fix="Remove model.keep_tied.",
        )
    untied = of_head and not of_embedding and not keep_tied and untie_head(model)
    model.requires_grad_(False)
    named = dict(model.named_parameters(remove_duplicate=False))
    for name in names:
        named[name].requires_grad_(True)
    return untied


def final_norm(stack: PreTrainedModel) -> nn.Module:
    """Return the norm between the last layer and the head."""
    norm = getattr(stack, "norm", None) or getattr(stack, "final_layernorm", None)
    if not isinstance(norm, nn.Module):
        raise ModelError(f"{type(stack).__name__} has no final norm that Penchant knows")
    return norm


def is_tied(model: PreTrainedModel) -> bool:
    """Return whether head and input embedding are one matrix."""
    top, embedding = head(model).weight, model.get_input_embeddings().weight  # type: ignore[union-attr]
    if top is embedding:
        return True
    # without memory, on the meta device, every tensor seems to share that of every other
    return not top.is_meta and top.data_ptr() == embedding.data_ptr()  # type: ignore[operator,union-attr]


def untie_head(model: PreTrainedModel) -> bool:
    """Give a tied head its own copy of the embedding; return whether it was tied."""
    if not is_tied(model):
        return False
    layer = head(model)
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
