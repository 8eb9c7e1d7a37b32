"""A configuration of axolotl's as a recipe, with a line about every key.

What TRL has too is put into TRL's terms and converted as a file of TRL's is; the rest is spoken about here.
"""

from __future__ import annotations

import re
from typing import Any

from penchant.errors import UsageError
from penchant.recipes.account import Migration, account_of
from penchant.recipes.axolotl.datasets import migrate_datasets
from penchant.recipes.axolotl.keys import AXOLOTL
from penchant.recipes.axolotl.objective import migrate_objective
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.notes import Notes
from penchant.recipes.trl.training import (
    migrate_data,
    migrate_engine,
    migrate_model,
    migrate_stopping,
    migrate_training,
)

_ADAPTERS = ("lora", "qlora")
_GLOB = re.compile(r"[\w.\[\]-]+")  # what reads the same as a regular expression and as a glob, but for its dots
_OFFLOADED = ("offload", "offload_disk", "unsloth")


def migrate(values: Any, *, devices: int | None = None, where: str = "axolotl configuration") -> Migration:
    """Return what an axolotl configuration comes to.

    Args:
        values: The file as plain data.
        devices: Devices that it was written for; None = 1.
        where: What errors call it.

    Raises:
        UsageError: A value has the wrong type or is out of our range, or the file is for another kind of training.
    """
    file, notes = TrlFile(values, where, AXOLOTL), Notes()
    _put_in_terms_of_trl(file, notes)
    migrate_model(file, notes)
    _unfrozen(file, notes)
    migrate_data(file, notes)
    migrate_objective(file, notes)
    migrate_training(file, notes, _devices(notes, devices))
    migrate_stopping(file, notes, "early_stopping_patience")
    migrate_engine(file, notes)
    if not file.has("learning_rate"):
        notes.unsaid_only("learning_rate", "axolotl asks for it; train.learning_rate is 1e-6 until you set it")
    return account_of(file, notes, migrate_datasets(file, notes))


def _put_in_terms_of_trl(file: TrlFile, notes: Notes) -> None:
    _adapter(file, notes)
    _precision(file, notes)
    _rhythm(file, notes)
    if file.said.get("gradient_checkpointing") in _OFFLOADED:
        notes.missing("gradient_checkpointing", "activations are computed again, never moved to other memory")
        file.said["gradient_checkpointing"] = True
    if file.said.get("torch_compile") == "auto":
        notes.missing("torch_compile", "auto: engine.compile stays off until you set it")
        file.said["torch_compile"] = None
    if file.has("batch_size"):
        file.assumed["gradient_accumulation_steps"] = max(
            1, file.count("batch_size") // max(1, file.count("per_device_train_batch_size"))
        )
        notes.converted("batch_size", "train.batch_pairs, as micro_batch_size x accumulation")
    if file.has("cosine_min_lr_ratio") and file.word("lr_scheduler_type") == "cosine":
        file.assumed["lr_scheduler_kwargs"] = {"min_lr_rate": file.number("cosine_min_lr_ratio")}
        file.said["lr_scheduler_type"] = "cosine_with_min_lr"
        notes.converted("cosine_min_lr_ratio", "train.final_fraction")
        if "lr_scheduler_type" not in file.own_names:
            del file.said["lr_scheduler_type"]
            file.assumed["lr_scheduler_type"] = "cosine_with_min_lr"
    elif file.has("cosine_min_lr_ratio"):
        notes.anyway("cosine_min_lr_ratio", "without effect in axolotl but with lr_scheduler: cosine")


def _adapter(file: TrlFile, notes: Notes) -> None:
    kind = file.said.get("use_peft")
    if kind is None or kind is False:
        return
    file.said["use_peft"] = kind in _ADAPTERS
    if kind not in _ADAPTERS:
        notes.missing(
            "use_peft", f"{kind} is not built: as it stands all weights are trained; set model.lora_rank"
        )
    elif file.has("lora_target_linear") and file.flag("lora_target_linear"):
        notes.anyway("lora_target_linear", "every linear layer but the head is model.lora_targets' default")
        if file.has("lora_target_modules"):
            notes.anyway("lora_target_modules", "lora_target_linear adds every linear layer to them")
            file.said["lora_target_modules"] = "all-linear"
        else:
            file.assumed["lora_target_modules"] = "all-linear"
    elif file.has("lora_target_linear"):
        notes.anyway("lora_target_linear", "lora_target_modules says which layers")


def _precision(file: TrlFile, notes: Notes) -> None:
    if file.said.get("bf16") in ("auto", "full"):
        text = "engine.precision is auto: bf16 where the hardware has it"
        (notes.anyway if file.said["bf16"] == "auto" else notes.missing)("bf16", f"{file.said['bf16']}: {text}")
        file.said["bf16"] = None
    for key in ("bfloat16", "float16"):
        if file.has(key) and file.flag(key):
            notes.missing(key, "weights stay fp32, with bf16 products where engine.precision says so")
    if file.has("float32") and file.flag("float32"):
        notes.write(file, "float32", "engine.precision", "fp32", ours="auto")


def _rhythm(file: TrlFile, notes: Notes) -> None:
    """Which steps are validated and kept: axolotl takes a number of steps for the strategy "steps"."""
    for steps, a_year, strategy, option in (
        ("eval_steps", "evals_per_epoch", "eval_strategy", "train.evaluate_every"),
        ("save_steps", "saves_per_epoch", "save_strategy", "train.checkpoint_every"),
    ):
        if file.has(steps):
            file.assumed[strategy] = "steps"
        if file.has(a_year):
            text = f"how many steps an epoch has is not known here: set {option} to a number of steps"
            notes.missing(a_year, text)
            file.assumed.setdefault(strategy, "no")
            if file.has(strategy) and not file.has(steps):
                notes.missing(strategy, text)
                file.said[strategy] = "no"


def _unfrozen(file: TrlFile, notes: Notes) -> None:
    """Axolotl's patterns are regular expressions over beginnings of names, ours globs over whole parts of them."""
    if not file.has("unfrozen_parameters"):
        return
    if file.flag("use_peft") if file.has("use_peft") else False:
        notes.missing("unfrozen_parameters", "model.train is not used with adapters: model.lora_targets says it")
        return
    globs: list[str] = []
    for pattern in file.listed("unfrozen_parameters"):
        glob = str(pattern).removeprefix("^").removesuffix("$").replace("\\.", ".").strip(".")
        if _GLOB.fullmatch(glob):
            globs.append(glob)
        else:
            notes.missing(
                "unfrozen_parameters", f"{pattern} is left out: model.train takes globs, not regular expressions"
            )
    if globs:
        notes.write(file, "unfrozen_parameters", "model.train", globs, ours=None)
        notes.missing(
            "unfrozen_parameters", "axolotl's patterns match beginnings of names, globs whole parts of them"
        )
    else:
        notes.missing("unfrozen_parameters", "as it stands all weights are trained")


def _devices(notes: Notes, devices: int | None) -> int:
    if devices is not None and devices < 1:
        raise UsageError(f"{devices} devices train nothing", fix="Give at least 1.")
    if devices is None:
        notes.unsaid_only("devices", "one device is assumed; --devices says how many the file was written for")
    return devices or 1
