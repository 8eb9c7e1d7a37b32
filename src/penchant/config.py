"""Every knob of Penchant in one typed place, and the strict YAML reader that fills it.

YAML is read more strictly than PyYAML does by itself: `5e-7` is a number, `no` is a word, a key may stand once,
and size, depth and aliases are limited. An unknown key is an error that names the nearest known one, and an
option that the chosen objective does not use is an error too: nothing is ever silently ignored.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penchant.errors import UsageError, did_you_mean

_MAX_YAML_BYTES = 1_000_000
_MAX_DEPTH = 20


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


class ModelConfig(Section):
    """Which model is aligned, and which part of it."""

    path: str = Field("bundled", description='Local directory, Hub id, GGUF file, or "bundled".')
    last_layers: int | None = Field(
        None, ge=0, description="Train only this many upper layers, the final norm and the head; null = all."
    )
    lora_rank: int | None = Field(
        None, ge=1, description="Train adapters of this rank in the linear layers instead of weights; null = none."
    )
    lora_alpha: float = Field(32.0, gt=0, description="Adapters are added lora_alpha / lora_rank times.")

    @model_validator(mode="after")
    def _no_inert_alpha(self) -> ModelConfig:
        if self.lora_rank is None and self.lora_alpha != ModelConfig.model_fields["lora_alpha"].default:
            raise ValueError("model.lora_alpha is not used without model.lora_rank; remove it, or set a rank.")
        return self


class DataConfig(Section):
    """How pairs become tokens."""

    format: Literal["chat", "transcript"] = Field(
        "chat", description="The model's chat template, or plain Human / Assistant text for a base model."
    )
    loss_turns: Literal["last", "all_assistant"] = Field(
        "last", description="Score the last response, or every assistant turn in which the two sides differ."
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
    random_labels: bool = Field(
        False, description="Flip every pair by a fair coin: a control that must not learn the preference."
    )

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


class ObjectiveConfig(Section):
    """What is minimised."""

    loss: Literal["dpo", "sft"] = Field("dpo", description="dpo, or sft (likelihood of the chosen response only).")
    beta: float = Field(0.1, gt=0, description="Strength of the tie to the reference, per nat.")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="Assumed share of flipped labels.")
    logps: Literal["sum", "mean"] = Field(
        "sum", description="Response log-probability: sum over its tokens (nats), or mean per token."
    )

    @model_validator(mode="after")
    def _no_inert_option(self) -> ObjectiveConfig:
        used = {"dpo": {"beta", "label_smoothing", "logps"}, "sft": {"logps"}}[self.loss]
        inert = self.model_fields_set - used - {"loss"}
        if inert:
            name = sorted(inert)[0]
            raise ValueError(f'objective.{name} is not used by objective.loss "{self.loss}"; remove it.')
        return self


class TrainConfig(Section):
    """How long, in what steps, and how fast."""

    epochs: float = Field(1.0, gt=0, description="Passes over the training pairs.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps; null = none.")
    batch_pairs: int = Field(8, ge=1, description="Pairs in an optimizer step.")
    learning_rate: float = Field(1e-6, gt=0, description="Peak learning rate of AdamW.")
    warmup_fraction: float = Field(0.1, ge=0, le=1, description="Share of the steps spent warming up.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="After the warm-up.")
    final_fraction: float = Field(0.1, ge=0, le=1, description="Last learning rate as a share of the peak.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's first moment.")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="Decay of AdamW's second moment.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of matrices.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest gradient norm; null = no clipping.")
    checkpoint_every: int | None = Field(None, ge=1, description="Steps between checkpoints; null = none.")
    order: Literal["pairs", "prompts"] = Field(
        "pairs", description="Shuffle pairs; or prompts, so that the pairs of one share a step and are cheaper."
    )
    seed: int = Field(0, ge=0, description="Of the order of the pairs and of random labels.")


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
    strong: bool = Field(False, description="Keep only strong preferences, as the section strength defines them.")
    strength: StrengthConfig = StrengthConfig()  # type: ignore[call-arg]

    @model_validator(mode="after")
    def _no_inert_rules(self) -> PrepareConfig:
        if not self.strong and self.strength.model_fields_set:
            name = sorted(self.strength.model_fields_set)[0]
            raise ValueError(f"strength.{name} is not used without --strong; add it, or remove the setting.")
        return self


class Config(Section):
    """The whole configuration of a run."""

    model: ModelConfig = ModelConfig()  # type: ignore[call-arg]
    data: DataConfig = DataConfig()  # type: ignore[call-arg]
    objective: ObjectiveConfig = ObjectiveConfig()  # type: ignore[call-arg]
    train: TrainConfig = TrainConfig()  # type: ignore[call-arg]
    engine: EngineConfig = EngineConfig()  # type: ignore[call-arg]
    eval: EvalConfig = EvalConfig()  # type: ignore[call-arg]

    def resolved(self) -> dict[str, Any]:
        """Return every value as plain data; options that the objective does not use are left out."""
        plain = self.model_dump(mode="json")
        if self.objective.loss == "sft":
            plain["objective"] = {"loss": "sft", "logps": self.objective.logps}
        return plain


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
        raise UsageError(f'--set {override}: write section.key=value, such as --set "objective.beta=0.05"')
    section = values.setdefault(parts[0], {})
    if not isinstance(section, dict):
        raise UsageError(f"{parts[0]} is a section, not a value", where="--set")
    section[parts[1]] = parse_yaml(text, where=f"--set {key}")


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
    return f"{name} = {item['input']!r}: {message[0].lower()}{message[1:]}."


def _known_keys(kind: type[Section], location: list[str]) -> list[str]:
    fields: dict[str, Any] = kind.model_fields
    for part in location:
        fields = fields[part].annotation.model_fields
    return list(fields)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 scalars, unique keys and a depth limit."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {_MAX_DEPTH}")
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if not isinstance(key, str):
                raise yaml.YAMLError(f"the key {key!r} is not a word")
            if key in keys[:index]:
                line = node.value[index][0].start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key!r} stands twice")
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    # a float needs a point or an exponent, or it would be an int
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("float", r"^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+."),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _construct_int(loader: _StrictLoader, node: Any) -> int:
    return int(loader.construct_scalar(node), 10)  # PyYAML would read 010 as octal


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse_yaml(text: str, *, where: str) -> Any:
    """Return the plain data of a YAML text.

    Raises:
        UsageError: The text is too large or is not strict YAML.
    """
    if len(text.encode()) > _MAX_YAML_BYTES:
        raise UsageError(f"more than {_MAX_YAML_BYTES} bytes of YAML", where=where)
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an integer of thousands of digits
        raise UsageError(f"this is not YAML that Penchant reads: {error}", where=where) from error


def read_yaml(path: Path) -> Any:
    """Return the plain data of a YAML file.

    Raises:
        UsageError: The file is missing, not UTF-8, too large or not strict YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        siblings = [item.name for item in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UsageError(f"there is no such file.{did_you_mean(path.name, siblings)}", where=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the file cannot be read ({error})", where=str(path)) from error
    return parse_yaml(text, where=str(path))
