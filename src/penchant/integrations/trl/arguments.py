"""From TRL's arguments to Penchant's configuration, by the translation that `penchant migrate` uses."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from penchant.config import Config, build_config
from penchant.errors import UsageError
from penchant.integrations.trl.config import DPOConfig, plain
from penchant.integrations.trl.fields import FIELDS
from penchant.recipes.trl.keys import MODEL_KEYS
from penchant.recipes.trl.migration import migrate

_HERE = (
    "output_dir", "logging_strategy", "logging_steps", "logging_first_step", "disable_tqdm", "save_total_limit",
    "data_seed", "greater_is_better", "model_init_kwargs", "router_aux_loss_coef",
)  # fmt: skip
_WITHOUT_EFFECT = ("attn_implementation", "use_cache", "low_cpu_mem_usage", "use_kernels")
_MORE_IS_BETTER = ("rewards/accuracies", "rewards/margins", "rewards/chosen", "logps/chosen")


def read_arguments(args: Any) -> DPOConfig:
    """Return the arguments of a trainer as this package's own: its own object, or TRL's.

    Raises:
        UsageError: It is neither; or one of TRL's fields has a value that is refused.
    """
    if isinstance(args, DPOConfig):
        return args
    theirs = next((kind for kind in type(args).__mro__ if kind.__module__.startswith("trl.")), None)
    if theirs is None or theirs.__name__ != "DPOConfig":
        raise UsageError(
            f"args is a {type(args).__name__}", fix="Give a DPOConfig of penchant.integrations.trl or of TRL."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those that the caller has had already
        usual: Any = theirs(output_dir=args.output_dir, use_cpu=True)  # or it may not like this machine for bf16
    said: dict[str, Any] = {}
    for one in fields(args):
        filled_in = one.default if one.name == "use_cpu" else getattr(usual, one.name, one.default)
        value, default = plain(getattr(args, one.name)), plain(filled_in)
        if one.init and value != default:
            said[one.name] = value
    return DPOConfig(output_dir=args.output_dir, **said)


@dataclass(frozen=True)
class Course:
    """How a run of some pairs goes.

    Attributes:
        pairs: Training pairs.
        micro: Pairs in a pass of TRL's trainer, over all devices.
        batch: Pairs in an optimizer step.
        epoch_steps: Steps in which every pair is seen once.
        steps: Of the whole run.
    """

    pairs: int
    micro: int
    batch: int
    epoch_steps: int
    steps: int

    @property
    def has_short_pass(self) -> bool:
        """Whether the last step of an epoch has several passes, the last of them short."""
        rest = self.pairs % self.batch
        return rest > self.micro and rest % self.micro > 0

    def epochs_after(self, step: int) -> float:
        """Return how often the pairs were seen after a step, counted in passes as transformers' trainer does."""
        epoch, place = divmod(step - 1, self.epoch_steps)
        passes = math.ceil(min((place + 1) * self.batch, self.pairs) / self.micro)
        return epoch + passes / math.ceil(self.pairs / self.micro)


def course_of(args: DPOConfig, pairs: int, devices: int) -> Course:
    """Return the course of a run as transformers' trainer plans it."""
    micro = args.per_device_train_batch_size * devices
    batch = micro * args.gradient_accumulation_steps
    epoch = math.ceil(pairs / batch)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)
    return Course(pairs, micro, batch, epoch, steps)


def every(args: DPOConfig, course: Course, what: str) -> int | None:
    """Return after how many steps there is a log, a validation or a checkpoint; None = never.

    Args:
        args: The arguments.
        course: Of the run.
        what: "logging", "eval" or "save".

    Raises:
        UsageError: The strategy is none that is known here, or the number of steps is not above zero.
    """
    strategy, steps = getattr(args, f"{what}_strategy"), getattr(args, f"{what}_steps")
    if strategy == "no":
        return None
    if strategy == "epoch":
        return course.epoch_steps
    if strategy != "steps":
        raise UsageError(f"{what}_strategy = {strategy!r}: steps, epoch or no is expected", where="DPOConfig")
    if steps is None:
        return every(args, course, "logging")
    if not isinstance(steps, int | float) or steps <= 0:
        raise UsageError(f"{what}_steps = {steps!r}: a number above zero is expected", where="DPOConfig")
    return math.ceil(steps * course.steps) if steps < 1 else int(steps)


def configuration(
    args: DPOConfig,
    course: Course,
    *,
    text: bool,
    held_out: int = 0,
    patience: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration of a run.

    Args:
        args: The arguments.
        course: Of the run.
        text: Whether the rows are bare text.
        held_out: Pairs to validate on.
        patience: Validations without progress after which the run ends; None = it does not.
        more: Further keys in TRL's terms: those of adapters.

    Raises:
        UsageError: A value that cannot be had here, each with the reason.
    """
    _check(args)
    values = {name: value for name, value in args.said().items() if name not in _HERE}
    values = {name: value for name, value in values.items() if FIELDS[name].fate == "taken"}
    for what, has_default in (("eval", "no"), ("save", "steps")):
        values.pop(f"{what}_strategy", None)
        values.pop(f"{what}_steps", None)
        steps = every(args, course, what)
        if steps is not None:
            values |= {f"{what}_strategy": "steps", f"{what}_steps": steps}
        elif has_default != "no":
            values[f"{what}_strategy"] = "no"
    if args.data_seed is not None:
        values["seed"] = args.data_seed
    devices = course.micro // args.per_device_train_batch_size
    found = migrate({**values, **(more or {})}, gpus=devices, where="DPOConfig")
    refused = [*found.lost, *found.placed]
    if refused:
        raise UsageError(
            "; ".join(f"{note.key}: {note.text}" for note in refused),
            where="DPOConfig",
            fix="Leave it out; or train with penchant.train and the recipe of `penchant migrate`, which takes the "
            "nearest.",
        )
    sections = {name: dict(section) for name, section in found.values.items()}
    sections.setdefault("data", {})["format"] = "trl_text" if text else "trl_chat"
    train = sections.setdefault("train", {})
    train["order"] = "trl"
    if train.get("evaluate_every") is not None:
        train["evaluate_pairs"] = max(1, held_out)
    if patience is not None:
        train["early_stop"] = patience
    return build_config(sections, where="DPOConfig")


def _check(args: DPOConfig) -> None:
    """Refuse what the table of keys cannot."""
    metric = (args.metric_for_best_model or "loss").removeprefix("eval_")
    better = args.greater_is_better
    for wrong, why in (
        (args.max_length is None, "max_length: there is always a limit; give the longest prompt + response"),
        (args.loss_type == ["sft"], "loss_type: on the likelihood alone train with `penchant sft`"),
        (
            (args.save_total_limit or 1) not in (1, 2),
            f"save_total_limit = {args.save_total_limit}: the two newest checkpoints are kept; give 1, 2 or none",
        ),
        (
            args.load_best_model_at_end and better is not None and better != (metric in _MORE_IS_BETTER),
            f"greater_is_better = {better}: {metric} is the other way round",
        ),
        (
            args.sync_ref_model and args.eval_strategy != "no",
            "sync_ref_model: validation compares with the reference as it began, not as it moved; give "
            "eval_strategy='no'",
        ),
        (
            args.router_aux_loss_coef not in (None, 0.0),
            "router_aux_loss_coef: the auxiliary loss of mixtures of experts is not added; give 0.0",
        ),
    ):
        if wrong:
            raise UsageError(why, where="DPOConfig")
    check_init_kwargs(args.model_init_kwargs)


def check_init_kwargs(given: Mapping[str, Any] | str | None) -> None:
    """Check the keyword arguments with which TRL would load a named model.

    Raises:
        UsageError: One of them would be of effect here, and cannot be had.
    """
    values = json.loads(given) if isinstance(given, str) else dict(given or {})
    values = {name: value for name, value in values.items() if name not in _WITHOUT_EFFECT and value is not None}
    usual = {"dtype": ("float32", "torch.float32"), "torch_dtype": ("float32", "torch.float32")}
    usual |= {"revision": ("main",), "trust_remote_code": ("False",)}
    for name, value in values.items():
        if str(value) not in usual.get(name, ()):
            raise UsageError(
                f"model_init_kwargs[{name!r}] = {value!r}: a named model is loaded in fp32 and plainly",
                where="DPOConfig",
                fix="Load the model yourself, and give it as model with its tokenizer as processing_class.",
            )


def adapter_keys(peft_config: Any, model_type: str) -> dict[str, Any]:
    """Return a LoraConfig of peft in TRL's terms; nothing for None.

    Args:
        peft_config: peft's.
        model_type: Of the model, for which peft has layers of its own choice.

    Raises:
        UsageError: It is another kind of adapter, or has an option that is not built.
    """
    if peft_config is None:
        return {}
    from peft import LoraConfig
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    if type(peft_config) is not LoraConfig:
        raise UsageError(f"a {type(peft_config).__name__} is not built", where="peft_config", fix=_LORA)
    usual = LoraConfig()
    for one in fields(LoraConfig):
        known = one.name in _LORA_KEYS or one.name in _LORA_WITHOUT_EFFECT
        if not known and getattr(peft_config, one.name) != getattr(usual, one.name):
            raise UsageError(
                f"{one.name} = {getattr(peft_config, one.name)!r} is not built", where="peft_config", fix=_LORA
            )
    found = {key: plain(getattr(peft_config, name)) for name, key in _LORA_KEYS.items()}
    targets = found["lora_target_modules"] or TARGETS.get(model_type)
    if isinstance(targets, list):
        targets = sorted(targets)
    said = {name: value for name, value in found.items() if value != MODEL_KEYS[name].default}
    if said.pop("lora_dropout", peft_config.lora_dropout):
        raise UsageError(
            f"lora_dropout = {peft_config.lora_dropout}: adapters have no dropout", where="peft_config", fix=_LORA
        )
    return {**said, "use_peft": True, "lora_target_modules": targets}


_LORA_KEYS = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}
_LORA_WITHOUT_EFFECT = (
    "task_type",
    "peft_type",
    "base_model_name_or_path",
    "revision",
    "auto_mapping",
    "peft_version",
)
_LORA = (
    "Give a LoraConfig of r, lora_alpha, target_modules, use_rslora and use_dora, with lora_dropout = 0; or merge "
    "other adapters into the model before."
)
