"""A training file of LLaMA-Factory's as a recipe, with a line about every key.

What TRL or transformers have too is put into TRL's terms and converted as a file of TRL's is; the rest is spoken
about here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penchant.errors import UsageError, did_you_mean
from penchant.recipes.account import Migration, account_of
from penchant.recipes.llamafactory.datasets import migrate_datasets
from penchant.recipes.llamafactory.keys import LLAMAFACTORY
from penchant.recipes.llamafactory.objective import migrate_objective
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.notes import Notes
from penchant.recipes.trl.training import migrate_engine, migrate_model, migrate_stopping, migrate_training

_METHODS = ("lora", "freeze", "full", "oft")
_OF_FREEZE = ("freeze_trainable_layers", "freeze_trainable_modules", "freeze_extra_modules")


def migrate(
    values: Any,
    *,
    devices: int | None = None,
    where: str = "LLaMA-Factory configuration",
    folder: Path | None = None,
) -> Migration:
    """Return what a training file of LLaMA-Factory's comes to.

    Args:
        values: The file as plain data.
        devices: Devices that it was written for; None = 1.
        where: What errors call it.
        folder: Where it lies, and its `dataset_dir` may lie; None = the data sets are not looked up.

    Raises:
        UsageError: A value has the wrong type or is out of our range, or the file is for another kind of training.
    """
    file, notes = TrlFile(values, where, LLAMAFACTORY), Notes()
    method = _method(file, notes)
    _adapters(file, notes)
    _gradient_checkpointing(file)
    migrate_model(file, notes)
    _freeze(file, notes, method)
    _data(file, notes)
    migrate_objective(file, notes)
    migrate_training(file, notes, _devices(notes, devices))
    migrate_stopping(file, notes, "early_stopping_steps")
    migrate_engine(file, notes)
    if file.has("pure_bf16") and file.flag("pure_bf16"):
        notes.missing("pure_bf16", "weights stay fp32, with bf16 products where engine.precision says so")
    return account_of(file, notes, migrate_datasets(file, notes, folder))


def _method(file: TrlFile, notes: Notes) -> str:
    """`finetuning_type`; in the file's place whether there are adapters."""
    method = file.said.get("use_peft") or "lora"
    if method not in _METHODS:
        hint = did_you_mean(str(method), _METHODS)
        raise UsageError(f'finetuning_type: "{method}" is no method of LLaMA-Factory.{hint}', where=file.where)
    if method == "oft":
        notes.missing("use_peft", "oft is not built: as it stands all weights are trained; set model.lora_rank")
    if file.has("use_peft"):
        file.said["use_peft"] = method == "lora"
        if method == "full":
            notes.anyway("use_peft", "full: all weights are trained unless model says otherwise")
    return str(method)


def _adapters(file: TrlFile, notes: Notes) -> None:
    if file.has("lora_target_modules"):
        named = file.said["lora_target_modules"]
        parts = [part.strip() for part in named.split(",")] if isinstance(named, str) else named
        file.said["lora_target_modules"] = "all-linear" if parts == ["all"] else parts
    if not file.has("lora_alpha"):
        file.assumed["lora_alpha"] = 2 * file.count("lora_r")
    if file.has("load_in_4bit"):
        bits = file.count("load_in_4bit")
        file.said["load_in_4bit"] = bits == 4
        if bits != 4:
            notes.missing(
                "load_in_4bit", f"{bits} bits: frozen weights are fp32, or NF4 with model.load_in_4bit: true"
            )
    if file.has("additional_target"):
        notes.missing("additional_target", "beside adapters nothing else is trained")
    if file.has("adapter_name_or_path"):
        notes.missing(
            "adapter_name_or_path",
            "name the adapter's folder as model.path: it is merged, and new ones are trained",
        )


def _gradient_checkpointing(file: TrlFile) -> None:
    if file.has("disable_gradient_checkpointing"):
        file.said["gradient_checkpointing"] = not file.flag("disable_gradient_checkpointing")
        file.own_names["gradient_checkpointing"] = "disable_gradient_checkpointing"
        del file.said["disable_gradient_checkpointing"]


def _freeze(file: TrlFile, notes: Notes, method: str) -> None:
    """The last layers are `model.last_layers`, the first ones globs of `model.train`."""
    if method != "freeze":
        for key in _OF_FREEZE:
            if file.has(key):
                notes.anyway(key, f"without effect in LLaMA-Factory with finetuning_type: {method}")
        return
    layers = file.count("freeze_trainable_layers")
    if layers < 0:
        globs = [f"layers.{index}" for index in range(-layers)]
        notes.write(file, "freeze_trainable_layers", "model.train", globs, ours=None)
    else:
        notes.write(file, "freeze_trainable_layers", "model.last_layers", layers, ours=None)
        notes.missing(
            "use_peft",
            "freeze: model.last_layers trains the final norm and the head too; LLaMA-Factory the layers alone",
        )
    if file.has("use_peft"):
        notes.converted("use_peft", "model.train" if layers < 0 else "model.last_layers")
    for key in _OF_FREEZE[1:]:
        if file.has(key) and file.get(key) != file.dialect.key(key).default:
            notes.missing(key, f"{file.get(key)}: say as globs which parts, with model.train in place of layers")


def _data(file: TrlFile, notes: Notes) -> None:
    notes.write(file, "max_length", "data.max_tokens", file.count("max_length"), ours=512)
    notes.unsaid_only(
        "truncation",
        "LLaMA-Factory cuts prompt and response in proportion; data.truncation: cut lets old turns go first",
    )
    if file.has("template") and file.word("template") != "default":
        notes.missing(
            "template",
            f"{file.word('template')}: the tokenizer's own template is used; `penchant inspect --model` shows it",
        )
    masked = file.flag("mask_history")
    if file.word("stage") == "sft":
        turns = "last" if masked else "all_assistant"
        notes.write(file, "mask_history", "data.loss_turns", turns, ours="last")
    elif file.has("mask_history"):
        notes.anyway("mask_history", "of pairs the last response is scored, in LLaMA-Factory too")
    if file.has("train_on_prompt") and file.flag("train_on_prompt"):
        notes.missing("train_on_prompt", "prompts are never scored with this loss")


def _devices(notes: Notes, devices: int | None) -> int:
    if devices is None:
        notes.unsaid_only("devices", "one device is assumed; --devices says how many the file was written for")
    return devices or 1
