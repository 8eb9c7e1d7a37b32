"""Every knob of Penchant in one typed place.

An unknown key is an error that names the nearest known one, and an option that the chosen objective does not use
is an error too: nothing is ever silently ignored. `penchant.strict_yaml` reads the files.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penchant.errors import UsageError, did_you_mean, nearest
from penchant.strict_yaml import parse_yaml, read_yaml

STATE_DICT_SUFFIXES = (".pth", ".pt")


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


class ModelConfig(Section):
    """Which model is aligned, and which part of it."""

    path: str = Field(
        "bundled",
        description="Local directory (also of a LoRA adapter), Hub id, GGUF file, state dict (.pth or .pt), or "
        '"bundled".',
    )
    architecture: str | None = Field(
        None,
        description="Model whose configuration and tokenizer a state dict is read with; null = none.",
    )
    reference: str | None = Field(
        None, description="Model to be the reference, named like path; null = the untouched policy."
    )
    load_in_4bit: bool = Field(
        False, description="Keep the frozen weights under adapters in 4 bits; needs the package bitsandbytes."
    )
    last_layers: int | None = Field(
        None, ge=0, description="Train only this many upper layers, the final norm and the head; null = all."
    )
    train: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None,
        min_length=1,
        description="Train only the parameters that these globs name (layers.2[0-9].mlp); null = all.",
    )
    keep_tied: bool = Field(
        False,
        description="Leave a tied head tied when it is trained: the embedding is then trained too, and no layer "
        "is constant.",
    )
    lora_rank: int | None = Field(
        None, ge=1, description="Train adapters of this rank in the linear layers instead of weights; null = none."
    )
    lora_alpha: float = Field(
        32.0, gt=0, description="Adapters are added lora_alpha / lora_rank times (rslora: / its square root)."
    )
    lora_variant: Literal["lora", "rslora", "dora"] = Field(
        "lora",
        description="Plain adapters; scaled by the rank's square root; or with trained lengths of weight rows.",
    )
    lora_targets: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None,
        min_length=1,
        description="Globs of the linear layers that get adapters (q_proj); null = all in the decoder layers.",
    )

    @model_validator(mode="after")
    def _no_inert_option(self) -> ModelConfig:
        fields = ModelConfig.model_fields
        for name in ("lora_alpha", "lora_variant", "lora_targets", "load_in_4bit"):
            if self.lora_rank is None and getattr(self, name) != fields[name].default:
                raise ValueError(f"model.{name} is not used without model.lora_rank; remove it, or set a rank.")
        if self.load_in_4bit and self.lora_variant == "dora":
            raise ValueError("model.load_in_4bit goes with model.lora_variant lora or rslora, not with dora.")
        if self.train is not None and self.lora_rank is not None:
            raise ValueError(
                "model.train is not used with model.lora_rank: model.lora_targets says what is adapted."
            )
        if self.train is not None and self.last_layers is not None:
            raise ValueError("model.train and model.last_layers both say what is trained; remove one of them.")
        chosen = self.train is not None or self.last_layers is not None
        if self.keep_tied and (self.lora_rank is not None or not chosen):
            raise ValueError("model.keep_tied is used only with model.last_layers or model.train; remove it.")
        return self

    @model_validator(mode="after")
    def _architecture_where_needed(self) -> ModelConfig:
        named = [name for name in (self.path, self.reference) if name is not None]
        state_dicts = [name for name in named if Path(name).suffix in STATE_DICT_SUFFIXES]
        if self.architecture is not None and not state_dicts:
            raise ValueError(
                "model.architecture is used only where model.path or model.reference is a state dict (.pth, .pt)."
            )
        if self.architecture is None and state_dicts:
            raise ValueError(
                f"{state_dicts[0]} is a state dict, which holds weights alone: name the model that it was trained "
                "from as model.architecture."
            )
        return self


Format = Literal["chat", "transcript", "plain", "trl_chat", "trl_text"]
"""In what form conversations become text, and text tokens."""

TRL_FORMATS = ("trl_chat", "trl_text")


class DataConfig(Section):
    """How pairs become tokens."""

    format: Format = Field(
        "chat",
        description="The model's chat template; for a base model Human / Assistant text, or the bare prompt; or, "
        "prompt and response in one as TRL has them, the template or bare text (docs/from-trl.md).",
    )
    loss_turns: Literal["last", "all_assistant"] = Field(
        "last",
        description="Score the last response, or every assistant turn in which the sides differ (sft: every one).",
    )
    max_tokens: int = Field(512, ge=8, description="Longest prompt + response, tokens.")
    truncation: Literal["cut", "drop", "keep_start"] = Field(
        "cut",
        description="What does not fit: cut old turns, then both responses; drop the pair; or cut responses only.",
    )
    response_fraction: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Share of max_tokens that a long prompt leaves to the responses, if they need it.",
    )
    exclude: str | None = Field(
        None, min_length=1, description="List of rows left out by hand (docs/data-browser.md); null = none."
    )
    random_labels: bool = Field(
        False, description="Flip every pair by a fair coin: a control that must not learn the preference."
    )

    @model_validator(mode="after")
    def _as_trl_has_it(self) -> DataConfig:
        if self.format in TRL_FORMATS and (self.truncation != "keep_start" or self.loss_turns != "last"):
            raise ValueError(
                f'data.format "{self.format}" scores all that follows the prompt and cuts its end: it goes with '
                'data.truncation "keep_start" and data.loss_turns "last".'
            )
        return self

    @model_validator(mode="after")
    def _no_inert_fraction(self) -> DataConfig:
        if (
            self.truncation != "cut"
            and self.response_fraction != DataConfig.model_fields["response_fraction"].default
        ):
            raise ValueError(
                f'data.response_fraction is not used by data.truncation "{self.truncation}"; remove it.'
            )
        return self


LossName = Literal[
    "dpo", "robust", "hinge", "ipo", "simpo", "orpo", "cpo", "dpop", "apo_zero", "apo_down",
    "exo", "nca", "sppo", "bco", "aot", "discopop", "kto", "sft",
]  # fmt: skip

# What every loss of a pair can be given, and what others can be given beside it; the value is its default there.
_ANY_PAIR: dict[str, Any] = {"logps": "sum", "nll_weight": 0.0, "pair_weights": False, "wpo": False}
_MOVING: dict[str, Any] = {"reference_every": None, "reference_share": 0.6}
_WITH_REFERENCE: dict[str, Any] = {**_ANY_PAIR, **_MOVING, "beta": 0.1, "ld_alpha": None}
_OF_MARGIN: dict[str, Any] = {**_WITH_REFERENCE, "margin_scale": 0.0}
_DIVERGENCE: dict[str, Any] = {"divergence": "reverse_kl", "divergence_alpha": 0.5}
_SMOOTHED: dict[str, Any] = {"label_smoothing": 0.0, "label_confidence": False}
_WITHOUT_REFERENCE: dict[str, Any] = {"nll_weight": 0.0, "pair_weights": False, "margin_scale": 0.0}
OBJECTIVE_OPTIONS: dict[str, dict[str, Any]] = {
    "dpo": {**_OF_MARGIN, **_SMOOTHED, **_DIVERGENCE},
    "robust": {**_OF_MARGIN, **_SMOOTHED, "label_smoothing": 0.1},
    "hinge": _OF_MARGIN,
    "ipo": _WITH_REFERENCE,
    "simpo": {**_WITHOUT_REFERENCE, "beta": 2.0, "gamma": 1.0},
    "orpo": {"beta": 0.1, "pair_weights": False},
    "cpo": {**_WITHOUT_REFERENCE, "logps": "sum", "beta": 0.1, "nll_weight": 1.0},
    "dpop": {**_OF_MARGIN, "penalty": 50.0},
    "apo_zero": _WITH_REFERENCE,
    "apo_down": _WITH_REFERENCE,
    "exo": {**_WITH_REFERENCE, **_SMOOTHED, "label_smoothing": 1e-3},
    "nca": _WITH_REFERENCE,
    "sppo": {**_WITH_REFERENCE, "beta": 1e-3},
    "bco": _WITH_REFERENCE,
    "aot": {**_WITH_REFERENCE, "label_smoothing": 0.0},
    "discopop": {**_OF_MARGIN, "tau": 0.05},
    "kto": {
        **_MOVING,
        "logps": "sum",
        "beta": 0.1,
        "pair_weights": False,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    },
    "sft": {"logps": "tokens", "pair_weights": False},
}


class ObjectiveConfig(Section):
    """What is minimised. Every loss has its own defaults, and an option that it does not use is an error."""

    loss: LossName | dict[LossName, Annotated[float, Field(gt=0)]] = Field(
        "dpo", description="One of the losses in docs/losses.md, or several with weights: {dpo: 1, hinge: 0.5}."
    )
    beta: float = Field(
        0.1, gt=0, description="Strength of the tie to the reference; docs/losses.md has its unit."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="Assumed share of flipped labels.")
    label_confidence: bool = Field(
        False, description="Take that share from each pair's `confidence` in its label, where the data has one."
    )
    logps: Literal["sum", "mean", "mean_all", "tokens"] = Field(
        "sum",
        description="Log-probability of a response: sum over its tokens (nats), mean per token, or mean over "
        "prompt and response. The default of sft, and of it alone, is tokens: the loss is the mean over all "
        "scored tokens of a step.",
    )
    pair_weights: bool = Field(False, description="Let each pair count as often as its `weight` in the data says.")
    margin_scale: float = Field(
        0.0, ge=0, description="Demand this times each pair's `margin` in the data, in units of the reward."
    )
    nll_weight: float = Field(
        0.0, ge=0, description="Weight of the chosen response's negative log-likelihood per token, added."
    )
    ld_alpha: float | None = Field(
        None, ge=0, lt=1, description="Weight of the tokens beyond the shorter response's length (LD-DPO)."
    )
    reference_every: int | None = Field(
        None,
        ge=1,
        description="Steps between moves of the reference towards the policy (TR-DPO); null = it stays.",
    )
    reference_share: float = Field(
        0.6, gt=0, le=1, description="Share of the policy in the reference after a move; 1 = all."
    )
    wpo: bool = Field(False, description="Weigh pairs by how probable the policy finds them (WPO).")
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = Field(
        "reverse_kl", description="What ties the policy to the reference."
    )
    divergence_alpha: float = Field(0.5, gt=0, lt=1, description="Of the alpha divergence.")
    gamma: float = Field(1.0, ge=0, description="Reward margin that SimPO demands.")
    penalty: float = Field(50.0, ge=0, description="Weight of a fall of the chosen response in DPOP.")
    tau: float = Field(0.05, gt=0, description="Temperature of the mixture in DiscoPOP.")
    desirable_weight: float = Field(1.0, gt=0, description="Weight of desirable responses in KTO.")
    undesirable_weight: float = Field(1.0, gt=0, description="Weight of undesirable responses in KTO.")

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, values: Any) -> Any:
        """Refuse what the loss does not use, fill in its own defaults for what was not said; null says nothing."""
        if not isinstance(values, dict):
            return values
        values = {option: value for option, value in values.items() if value is not None}
        losses = values.get("loss", "dpo")
        names = [losses] if isinstance(losses, str) else list(losses) if isinstance(losses, dict) else []
        for name in names:
            if name not in OBJECTIVE_OPTIONS:
                raise ValueError(f'objective.loss "{name}" is not a loss.{_loss_meant(name)}')
        if not names:
            return values
        for option in values:
            users = [loss for loss, options in OBJECTIVE_OPTIONS.items() if option in options]
            if users and not any(name in users for name in names):
                raise ValueError(
                    f'objective.{option} is not used by objective.loss "{" + ".join(names)}", but by '
                    f"{', '.join(users)}; remove it, or where a recipe has it, set it to null."
                )
        defaults: dict[str, Any] = {}
        for name in names:
            for option, value in OBJECTIVE_OPTIONS[name].items():
                if option not in values and defaults.setdefault(option, value) != value:
                    raise ValueError(
                        f"objective.{option} has another default in each of {', '.join(names)}; set it."
                    )
        return {**defaults, **values}

    @model_validator(mode="after")
    def _is_consistent(self) -> ObjectiveConfig:
        names = list(self.losses)
        if not names:
            raise ValueError("objective.loss names no loss.")
        if "kto" in names and len(names) > 1:
            raise ValueError(
                'objective.loss "kto" judges single responses and cannot be mixed with losses of pairs.'
            )
        if self.divergence != "alpha" and self.divergence_alpha != 0.5:
            raise ValueError('objective.divergence_alpha is used by objective.divergence "alpha" only; remove it.')
        if self.reference_every is None and self.reference_share != 0.6:
            raise ValueError("objective.reference_share is used with objective.reference_every only; remove it.")
        if self.ld_alpha is not None and self.logps != "sum":
            raise ValueError(f'objective.ld_alpha weighs the terms of a sum; objective.logps is "{self.logps}".')
        if self.ld_alpha is not None and self.nll_weight:
            raise ValueError("objective.ld_alpha and objective.nll_weight cannot be combined; remove one.")
        if self.logps == "mean_all" and (self.nll_weight or "sft" in names):
            raise ValueError('objective.logps "mean_all" would put the prompt into the likelihood; choose "mean".')
        if "exo" in names and not self.label_smoothing and not self.label_confidence:
            raise ValueError("objective.label_smoothing must be above 0 for exo: at 0 its loss is infinite.")
        if self.logps == "tokens" and names != ["sft"]:
            raise ValueError(
                f'objective.logps "tokens" is not used by objective.loss "{" + ".join(names)}", only by "sft"; '
                'write "sum" or "mean".'
            )
        return self

    @property
    def losses(self) -> dict[str, float]:
        """Every loss that is minimised, with its weight."""
        return {self.loss: 1.0} if isinstance(self.loss, str) else {str(name): w for name, w in self.loss.items()}

    def used(self) -> dict[str, Any]:
        """Return the loss and every option that it uses, as plain data."""
        options = {option for name in self.losses for option in OBJECTIVE_OPTIONS[name]}
        if self.divergence != "alpha":
            options.discard("divergence_alpha")
        if self.reference_every is None:
            options.discard("reference_share")
        return {
            key: value for key, value in self.model_dump(mode="json").items() if key == "loss" or key in options
        }


class TrainConfig(Section):
    """How long, in what steps, and how fast."""

    epochs: float = Field(1.0, gt=0, description="Passes over the training pairs.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps; null = none.")
    batch_pairs: int = Field(
        8,
        ge=1,
        description="Pairs in an optimizer step, however many passes engine.micro_batch_tokens makes of them.",
    )
    learning_rate: float = Field(1e-6, gt=0, le=1e30, description="Peak learning rate.")
    warmup_fraction: float | None = Field(
        0.1, ge=0, le=1, description="Share of the steps spent warming up; null = none."
    )
    warmup_steps: int | None = Field(
        None, ge=0, description="Steps spent warming up, in place of train.warmup_fraction; null = by that."
    )
    schedule: Literal["linear", "cosine", "constant", "wsd"] = Field(
        "linear", description="After the warm-up; wsd stays at the peak, then decays by 1 - sqrt."
    )
    decay_fraction: float = Field(0.2, gt=0, le=1, description="Share of the steps in which wsd decays, the last.")
    final_fraction: float | None = Field(
        0.1, ge=0, le=1, description="Last learning rate as a share of the peak; null = 0."
    )
    optimizer: Literal["adamw", "rmsprop", "adamw_8bit"] = Field(
        "adamw", description="rmsprop holds half of AdamW's state; adamw_8bit a quarter, and needs bitsandbytes."
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's first moment.")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="Decay of AdamW's second moment.")
    rmsprop_alpha: float = Field(0.99, ge=0, lt=1, description="Decay of RMSprop's second moment.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of matrices.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest gradient norm; null = no clipping.")
    checkpoint_every: int | None = Field(None, ge=1, description="Steps between checkpoints; null = none.")
    evaluate_every: int | None = Field(
        None,
        ge=1,
        description="Steps between validations on held-out pairs; one more after the last; null = none.",
    )
    evaluate_data: str | None = Field(
        None, description="File or folder of the held-out pairs; null = the test split of --data."
    )
    evaluate_pairs: int = Field(256, ge=1, description="Held-out pairs at most; always the same ones of a file.")
    keep_best: (
        Literal["loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "logps/chosen"] | None
    ) = Field(None, description="Save the weights that were best by this validation figure; null = the last.")
    early_stop: int | None = Field(
        None,
        ge=1,
        description="Stop after so many validations in a row no better by train.keep_best, or loss; null = never.",
    )
    order: Literal["pairs", "prompts", "trl"] = Field(
        "pairs",
        description="Shuffle pairs; prompts, so that the pairs of one share a step and are cheaper; or take the "
        "course of TRL's trainer: its order, a short last step of each epoch, rates one step behind.",
    )
    seed: int = Field(0, ge=0, description="Of the order of the pairs and of random labels.")

    @model_validator(mode="after")
    def _no_inert_option(self) -> TrainConfig:
        for name, why in self.unused().items():
            if name in self.model_fields_set and getattr(self, name) is not None:
                raise ValueError(f"train.{name} is not used {why}; remove it.")
        warmup = 0.0 if self.warmup_steps is not None else self.warmup_fraction or 0.0
        if self.schedule == "wsd" and warmup + self.decay_fraction > 1:
            raise ValueError("train.warmup_fraction and train.decay_fraction are more than 1 together.")
        return self

    def unused(self) -> dict[str, str]:
        """Return the options that the others leave without effect, each with the reason."""
        unused = {
            name: f'by train.{by} "{getattr(self, by)}", only by {" and ".join(users)}'
            for name, (by, users) in _TRAIN_OPTIONS_OF.items()
            if getattr(self, by) not in users
        }
        if self.warmup_steps is not None:
            unused["warmup_fraction"] = "beside train.warmup_steps"
        if self.evaluate_every is None:
            names = ("evaluate_data", "evaluate_pairs", "keep_best", "early_stop")
            unused |= dict.fromkeys(names, "without train.evaluate_every")
        return unused


# Which option decides whether an option of the section train is used, and the values of it that use it.
_TRAIN_OPTIONS_OF = {
    "decay_fraction": ("schedule", ("wsd",)),
    "final_fraction": ("schedule", ("linear", "cosine", "wsd")),
    "adam_beta1": ("optimizer", ("adamw", "adamw_8bit")),
    "adam_beta2": ("optimizer", ("adamw", "adamw_8bit")),
    "rmsprop_alpha": ("optimizer", ("rmsprop",)),
}


class EngineConfig(Section):
    """How it is computed. None of these changes a number beyond rounding."""

    device: str = Field("auto", description="auto, cpu, cuda or mps.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Matrix products; auto = bf16 where the hardware has it. Weights stay fp32."
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; null = all cores.")
    prefix_sharing: bool = Field(True, description="Compute the prompt once for chosen and rejected.")
    trunk_sharing: bool = Field(True, description="Run frozen lower layers once for policy and reference.")
    attention: Literal["auto", "sdpa", "varlen", "flex"] = Field(
        "auto", description="Kernel for shared prompts; auto = the fastest that passes a self-test on this device."
    )
    head_once: bool = Field(
        True, description="Make the head's gradients in its forward pass, some pairs at a time."
    )
    last_layer_pruning: bool = Field(True, description="Let prompts serve the last layer as keys and values only.")
    activation_checkpointing: Literal["auto", True, False] = Field(
        "auto",
        description="Compute trained layers again in the backward pass instead of keeping what it needs; "
        "auto = when that would not fit.",
    )
    compile: bool = Field(
        False, description="Compile the layers; meant for CUDA, where the first step then takes minutes."
    )
    trunk_cache_bytes: int = Field(
        1 << 30,
        ge=0,
        description="Memory for outputs of frozen lower layers that the disk did not take; beyond it: recomputed.",
    )
    trunk_cache_disk_bytes: int = Field(
        8 << 30,  # sixteen thousand pairs of 215 tokens at a width of 576; never more than half of what is free
        ge=0,
        description="Disk for outputs of frozen lower layers, kept for later epochs and runs; 0 = none.",
    )
    micro_batch_tokens: int = Field(
        2048,  # with SmolLM2-135M in bf16 on two cores 1024 saved a tenth of the memory and took a tenth more time
        ge=1,
        description="Most tokens in one forward and backward pass: more is faster, less takes less memory.",
    )


class EvalConfig(Section):
    """How the trained model is judged."""

    max_new_tokens: int = Field(96, ge=1, description="Longest generated answer, tokens.")
    batch_rows: int = Field(128, ge=1, description="Answers generated at a time.")


class StrengthConfig(Section):
    """When a preference is strong. A key is the name of its rule; null switches that rule off, and no other."""

    min_length: int | None = Field(default=60, ge=0, description="Each response has more characters than this.")
    max_length_ratio: float | None = Field(
        default=None, ge=1, description="Longer response at most this many times the shorter one, in words."
    )
    sufficient_difference: float | None = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Least share of words, repeats counted, that the responses do not share.",
    )
    lexical_overlap: float | None = Field(
        default=0.25, ge=0, lt=1, description="Largest share of their content words that both responses use."
    )
    stop_word_ratio: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] | None = (
        Field(default=(0.2, 0.7), description="Least and largest share of stop words in the chosen response.")
    )
    no_weak_phrases: tuple[Annotated[str, Field(pattern=r"\w")], ...] | None = Field(
        default=(
            "I'm not sure",
            "I am not sure",
            "I'm not certain",
            "I am not certain",
            "I don't know",
            "I do not know",
            "I don't understand",
            "I do not understand",
            "I have no idea",
            "I'm confused",
            "I guess",
            "hard to say",
            "what do you mean",
        ),
        min_length=1,
        description="Phrases that the chosen response must not hold, whatever their case.",
    )
    nouns_and_verbs: int | None = Field(
        default=1,
        ge=1,
        description="How many more nouns and verbs the chosen response has than the rejected one, at least.",
    )
    tagger: Literal["textblob", "nltk"] = Field(
        default="textblob",
        description="Finds nouns and verbs; nltk needs its perceptron tagger's data on this machine.",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> StrengthConfig:
        if self.stop_word_ratio is not None and self.stop_word_ratio[0] > self.stop_word_ratio[1]:
            low, high = self.stop_word_ratio
            raise ValueError(f"strength.stop_word_ratio is [least, largest], and {low} is above {high}.")
        if self.nouns_and_verbs is None and self.tagger != "textblob":
            raise ValueError("strength.tagger is not used when strength.nouns_and_verbs is null; remove it.")
        return self


class PrepareConfig(Section):
    """How preference data is prepared."""

    seed: int = Field(0, ge=0, description="Of the draw and of the split.")
    test_fraction: float = Field(0.05, ge=0, lt=1, description="Share of prompts that are held out.")
    limit: int | None = Field(None, ge=1, description="Pairs to draw, train and test together; null = all.")
    exclude: str | None = Field(
        None, min_length=1, description="List of rows left out by hand (docs/data-browser.md); null = none."
    )
    strong: bool = Field(False, description="Keep only strong preferences, as the section strength defines them.")
    strength: StrengthConfig = StrengthConfig()  # type: ignore[call-arg]

    @model_validator(mode="after")
    def _no_inert_rules(self) -> PrepareConfig:
        if not self.strong and self.strength.model_fields_set:
            name = sorted(self.strength.model_fields_set)[0]
            raise ValueError(f"strength.{name} is not used without --strong; add it, or remove the setting.")
        return self


class MonitorConfig(Section):
    """What is watched while a run trains."""

    displacement_stop: float | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="End the run when surely more than this share of chosen responses lies below the reference; "
        "null = warn only.",
    )
    generate_every: int | None = Field(
        None,
        ge=1,
        description="Steps between short answers of the policy (KL, length, repetition); null = none.",
    )
    prompts: int = Field(32, ge=8, description="Prompts that are answered.")
    max_new_tokens: int = Field(48, ge=8, description="Longest of these answers, tokens.")

    @model_validator(mode="after")
    def _no_inert_option(self) -> MonitorConfig:
        for name in self.unused():
            if getattr(self, name) != MonitorConfig.model_fields[name].default:
                raise ValueError(f"monitor.{name} is not used without monitor.generate_every; remove it.")
        return self

    def unused(self) -> list[str]:
        """Return the options that the others leave without effect."""
        return ["prompts", "max_new_tokens"] if self.generate_every is None else []


class Config(Section):
    """The whole configuration of a run."""

    model: ModelConfig = ModelConfig()  # type: ignore[call-arg]
    data: DataConfig = DataConfig()  # type: ignore[call-arg]
    objective: ObjectiveConfig = ObjectiveConfig()  # type: ignore[call-arg]
    train: TrainConfig = TrainConfig()  # type: ignore[call-arg]
    engine: EngineConfig = EngineConfig()  # type: ignore[call-arg]
    eval: EvalConfig = EvalConfig()  # type: ignore[call-arg]
    monitor: MonitorConfig = MonitorConfig()  # type: ignore[call-arg]

    @model_validator(mode="after")
    def _no_inert_labels(self) -> Config:
        if self.objective.loss == "sft" and self.data.random_labels:
            raise ValueError('data.random_labels is not used by objective.loss "sft", only by losses of pairs.')
        return self

    @model_validator(mode="after")
    def _no_inert_monitor(self) -> Config:
        names = list(self.objective.losses)
        if self.monitor.displacement_stop is not None and not _have_reference(names):
            users = ", ".join(name for name in OBJECTIVE_OPTIONS if _have_reference([name]))
            raise ValueError(
                f'monitor.displacement_stop is not used by objective.loss "{" + ".join(names)}", which has no '
                f"reference; those that have: {users}."
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Return every value as plain data; options that have no effect are left out."""
        plain = {**self.model_dump(mode="json"), "objective": self.objective.used()}
        for name in self.train.unused():
            del plain["train"][name]
        for name in self.monitor.unused():
            del plain["monitor"][name]
        return plain


def _have_reference(losses: Sequence[str]) -> bool:
    return any("reference_every" in OBJECTIVE_OPTIONS[name] for name in losses)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and `a.b=c` overrides into a checked configuration.

    Raises:
        UsageError: The file is missing or not YAML, a key is unknown or repeated, or a value is out of range.
    """
    return build_config(read_yaml(path), overrides, where=str(path))


def build_config(values: Any, overrides: Sequence[str] = (), *, where: str = "configuration") -> Config:
    """Check a nested mapping, with overrides applied, and return the configuration.

    Raises:
        UsageError: See `load_config`.
    """
    return build(Config, values, overrides, where=where)


def build(
    kind: type[AnySection], values: Any, overrides: Sequence[str] = (), *, where: str = "configuration"
) -> AnySection:
    """Check a nested mapping, with overrides applied, and return the configuration of this kind.

    Raises:
        UsageError: See `load_config`.
    """
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UsageError("a configuration is a mapping of sections", where=where)
    values = copy.deepcopy(values)
    for override in overrides:
        _apply_override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error, kind), where=where) from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise UsageError(
            f'--set {override}: write section.key=value, such as --set "objective.beta=0.05"'
            f"{_key_meant(parts[-1])}"
        )
    section = values.setdefault(parts[0], {})
    if not isinstance(section, dict):
        raise UsageError(f"{parts[0]} is a section, not a value", where="--set")
    section[parts[1]] = parse_yaml(text, where=f"--set {key}")


def _key_meant(word: str) -> str:
    """The keys of all sections that are called so, or nearly, as a question."""
    names = [f"{name}.{key}" for name in Config.model_fields for key in _known_keys(Config, [name])]
    keys = {name.partition(".")[2] for name in names}
    meant = word if word in keys else nearest(word, keys)
    found = [name for name in names if name.partition(".")[2] == meant]
    return f'. Did you mean "{" or ".join(found)}"?' if found else ""


def _loss_meant(name: str) -> str:
    """The nearest loss; what TRL calls sigmoid is dpo."""
    if nearest(name, [*OBJECTIVE_OPTIONS, "sigmoid"]) == "sigmoid":
        return ' Did you mean "dpo", which TRL calls sigmoid?'
    return did_you_mean(name, OBJECTIVE_OPTIONS)


def _explain(error: ValidationError, kind: type[Section]) -> str:
    return " ".join(_explain_one(item, kind) for item in error.errors())


def _explain_one(item: Any, kind: type[Section]) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        return f"{name} is not a setting.{did_you_mean(location[-1], known)}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return message
    hint = ""
    if item["type"] == "literal_error":
        hint = did_you_mean(str(item["input"]), re.findall(r"'([^']*)'", item["ctx"]["expected"]))
    if "Did you mean" not in hint:  # otherwise the message names all that are known itself
        hint = ""
    return f"{name} = {item['input']!r}: {message[0].lower()}{message[1:]}.{hint}"


def _known_keys(kind: type[Section], location: list[str]) -> list[str]:
    fields: dict[str, Any] = kind.model_fields
    for part in location:
        fields = fields[part].annotation.model_fields
    return list(fields)
