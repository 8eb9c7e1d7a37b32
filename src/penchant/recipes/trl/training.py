"""TRL's sections of model, data, training and engine in terms of ours."""

from __future__ import annotations

from typing import Any

from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.notes import Notes

_NO_LIMIT_TOKENS = 32768
_ADAPTER_KEYS = (
    "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_rslora", "use_dora", "load_in_4bit",
)  # fmt: skip
_OPTIMIZERS = {
    **dict.fromkeys(
        ("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "paged_adamw_32bit", "adamw_hf"), "adamw"
    ),
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adamw_torch_8bit"), "adamw_8bit"),
    **dict.fromkeys(("rmsprop", "rmsprop_bnb", "rmsprop_bnb_32bit"), "rmsprop"),
}
_SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_min_lr": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "warmup_stable_decay": "wsd",
}
_NEAREST_SCHEDULE = {"polynomial": "linear"}  # else cosine
_BEST = ("loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "logps/chosen")


def migrate_model(trl: TrlFile, notes: Notes) -> None:
    """Write the section `model`."""
    if trl.has("model_name_or_path"):
        notes.write(trl, "model_name_or_path", "model.path", trl.word("model_name_or_path"), ours=None)
    if trl.has("dtype") and trl.word("dtype") not in ("float32", "auto"):
        notes.missing("dtype", "weights stay fp32, with bf16 products where engine.precision says so")
    if trl.flag("load_in_8bit"):
        notes.missing("load_in_8bit", "frozen weights are fp32, or NF4 with model.load_in_4bit: true")
    if trl.flag("use_peft"):
        if trl.has("use_peft"):
            notes.converted("use_peft", "model.lora_rank")
        else:
            notes.unsaid_only("use_peft", f"{trl.tool}'s default is lora; model.lora_rank written")
        _adapters(trl, notes)
        return
    for key in _ADAPTER_KEYS:
        if trl.has(key) and key == "load_in_4bit" and trl.flag(key):
            notes.missing(key, "only weights under adapters can be 4 bits: set model.lora_rank too")
        elif trl.has(key):
            notes.anyway(key, f"without effect in {trl.tool} without {trl.name('use_peft')}")


def _adapters(trl: TrlFile, notes: Notes) -> None:
    notes.write(trl, "lora_r", "model.lora_rank", trl.count("lora_r"), ours=None)
    notes.write(trl, "lora_alpha", "model.lora_alpha", trl.number("lora_alpha"), ours=32.0)
    _adapted_layers(trl, notes)
    rslora, dora = trl.flag("use_rslora"), trl.flag("use_dora")
    if dora:
        notes.write(trl, "use_dora", "model.lora_variant", "dora", ours="lora")
        if rslora:
            notes.missing("use_rslora", "model.lora_variant is dora or rslora, not both; dora written")
    elif rslora:
        notes.write(trl, "use_rslora", "model.lora_variant", "rslora", ours="lora")
    notes.write(trl, "load_in_4bit", "model.load_in_4bit", trl.flag("load_in_4bit"), ours=False)
    dropout = trl.number("lora_dropout")
    if trl.has("lora_dropout") and dropout:
        notes.missing("lora_dropout", "adapters have no dropout, nor has anything else")
    elif dropout:
        notes.unsaid_only("lora_dropout", f"{trl.tool}'s default is {dropout:g}; adapters have no dropout here")


def _adapted_layers(trl: TrlFile, notes: Notes) -> None:
    targets = trl.get("lora_target_modules")
    if targets is None:
        targets = ["q_proj", "v_proj"]
        notes.values.setdefault("model", {})["lora_targets"] = targets
        notes.unsaid_only(
            "lora_target_modules",
            "peft's default is q_proj and v_proj for Llama, Mistral, Qwen and Gemma (others for other models), "
            "ours every linear layer. model.lora_targets written",
        )
    elif targets in ("all-linear", ["all-linear"]):
        notes.anyway("lora_target_modules", "every linear layer but the head is model.lora_targets' default")
    elif isinstance(targets, str) and not targets.replace("_", "").isalnum():
        notes.missing(
            "lora_target_modules", "peft reads this as a regular expression; model.lora_targets takes globs"
        )
    else:
        notes.write(trl, "lora_target_modules", "model.lora_targets", trl.listed("lora_target_modules"), ours=None)


def migrate_data(trl: TrlFile, notes: Notes) -> None:
    """Write the section `data`."""
    if "max_length" in trl.said and not trl.has("max_length"):
        notes.values.setdefault("data", {})["max_tokens"] = _NO_LIMIT_TOKENS
        notes.missing("max_length", f"there is always a limit; data.max_tokens = {_NO_LIMIT_TOKENS} written")
    else:
        notes.write(trl, "max_length", "data.max_tokens", trl.count("max_length"), ours=512)
    mode = trl.word("truncation_mode")
    if mode == "keep_start":
        notes.write(trl, "truncation_mode", "data.truncation", "keep_start", ours="cut")
    else:
        notes.missing(
            "truncation_mode",
            f"{mode}: data.truncation: cut, the nearest, lets old turns of the prompt go, then cuts the responses",
        )


def migrate_training(trl: TrlFile, notes: Notes, gpus: int) -> None:
    """Write the section `train`."""
    _steps(trl, notes, gpus)
    notes.write(trl, "learning_rate", "train.learning_rate", trl.number("learning_rate"), ours=1e-6)
    _schedule(trl, notes)
    _optimizer(trl, notes)
    clip = trl.number("max_grad_norm")
    notes.write(trl, "max_grad_norm", "train.clip_norm", clip or None, ours=1.0)
    notes.write(trl, "seed", "train.seed", trl.count("seed"), ours=0)
    _checkpoints(trl, notes)
    _validation(trl, notes)


def _steps(trl: TrlFile, notes: Notes, gpus: int) -> None:
    batch = trl.count("per_device_train_batch_size") * trl.count("gradient_accumulation_steps") * gpus
    pairs, parts = "per_device_train_batch_size", "gradient_accumulation_steps"
    notes.write(
        trl,
        pairs if trl.has(pairs) or not trl.has(parts) else parts,
        "train.batch_pairs",
        batch,
        ours=8,
        how=f"pairs a device x accumulation x {gpus} device{'s' * (gpus > 1)}",
    )
    notes.values.setdefault("train", {})["batch_pairs"] = batch
    if trl.has(pairs) and trl.has(parts):
        notes.converted(parts, "train.batch_pairs")
    steps = trl.count("max_steps")
    if steps > 0:
        notes.write(trl, "max_steps", "train.max_steps", steps, ours=None)
        notes.values["train"]["epochs"] = float(steps)
        if trl.has("num_train_epochs"):
            notes.anyway("num_train_epochs", f"max_steps decides, in {trl.tool} too")
        return
    notes.write(trl, "num_train_epochs", "train.epochs", trl.number("num_train_epochs"), ours=1.0)
    if trl.has("max_steps"):
        notes.anyway("max_steps", "below 1 it is no limit")


def _schedule(trl: TrlFile, notes: Notes) -> None:
    named, given = trl.word("lr_scheduler_type"), dict(trl.mapping("lr_scheduler_kwargs"))
    ours = _SCHEDULES.get(named)
    if ours is None:
        ours = _NEAREST_SCHEDULE.get(named, "cosine")
        notes.missing("lr_scheduler_type", f"{named} is not built; train.schedule = {ours} written, see the docs")
        notes.values.setdefault("train", {})["schedule"] = ours
    else:
        notes.write(trl, "lr_scheduler_type", "train.schedule", ours, ours="linear")
    final = _final_fraction(trl, named, given)
    if ours != "constant":
        how = f"it ends at {final:g} of the peak"
        notes.write(trl, "lr_scheduler_type", "train.final_fraction", final, ours=0.1, how=how)
    if ours == "wsd":
        _decay(trl, notes, given)
    if trl.has("lr_scheduler_kwargs"):
        if given:
            notes.missing("lr_scheduler_kwargs", f"{', '.join(given)}: train has no such option for {ours}")
        else:
            notes.converted(
                "lr_scheduler_kwargs", "train.final_fraction" if ours != "wsd" else "train.decay_fraction"
            )
    _warmup(trl, notes, named)


def _final_fraction(trl: TrlFile, named: str, given: dict[str, Any]) -> float:
    """Where the rate ends, as a share of the peak; the kwargs that say it are taken out of `given`."""
    if named == "cosine_with_min_lr":
        if "min_lr_rate" in given:
            return trl.as_number("min_lr_rate", given.pop("min_lr_rate"))
        if "min_lr" in given and trl.number("learning_rate") > 0:
            return trl.as_number("min_lr", given.pop("min_lr")) / trl.number("learning_rate")
    if named == "warmup_stable_decay":
        return trl.as_number("min_lr_ratio", given.pop("min_lr_ratio", 0.0))
    return 0.0


def _decay(trl: TrlFile, notes: Notes, given: dict[str, Any]) -> None:
    steps, total = given.pop("num_decay_steps", None), trl.count("max_steps")
    if steps is not None and total > 0:
        notes.values.setdefault("train", {})["decay_fraction"] = trl.as_number("num_decay_steps", steps) / total
    elif steps is not None:
        notes.missing("lr_scheduler_kwargs", "num_decay_steps: set train.decay_fraction, their share of all steps")
    shape = given.pop("decay_type", "cosine")
    if shape != "1-sqrt":
        notes.missing(
            "lr_scheduler_type", f"{trl.tool} decays here like {shape}; train.schedule: wsd like 1 - sqrt"
        )


def _warmup(trl: TrlFile, notes: Notes, named: str) -> None:
    key = "warmup_ratio" if trl.has("warmup_ratio") and not trl.has("warmup_steps") else "warmup_steps"
    if named == "constant":
        if trl.has(key):
            notes.anyway(key, f"{trl.tool}'s schedule `constant` does not warm up")
        notes.values.setdefault("train", {})["warmup_steps"] = 0
        return
    value = trl.number(key)
    if not trl.has(key) and not value:
        notes.values.setdefault("train", {})["warmup_steps"] = 0
        notes.unsaid_only(key, f"{trl.tool}'s default is 0, ours a tenth of the steps; train.warmup_steps written")
    elif 0 < value < 1 or key == "warmup_ratio":  # transformers takes a number below 1 for a share of the steps
        notes.write(trl, key, "train.warmup_fraction", value, ours=0.1)
    else:
        notes.write(trl, key, "train.warmup_steps", int(value), ours=None)
    if key == "warmup_steps" and trl.has("warmup_ratio"):
        notes.anyway("warmup_ratio", f"warmup_steps decides, in {trl.tool} too")


def _optimizer(trl: TrlFile, notes: Notes) -> None:
    named = trl.word("optim")
    ours = _OPTIMIZERS.get(named)
    if ours is None:
        ours = "adamw"
        notes.missing("optim", f"{named} is not built; adamw is left")
    else:
        notes.write(trl, "optim", "train.optimizer", ours, ours="adamw")
    for number, default in (("1", 0.9), ("2", 0.95)):
        key = f"adam_beta{number}"
        if ours != "rmsprop":
            notes.write(trl, key, f"train.adam_beta{number}", trl.number(key), ours=default)
        elif trl.has(key):
            notes.anyway(key, "RMSprop does not use it")
    if trl.number("adam_epsilon") != 1e-8:
        notes.missing("adam_epsilon", "it is 1e-8")
    notes.write(trl, "weight_decay", "train.weight_decay", trl.number("weight_decay"), ours=0.0)


def _checkpoints(trl: TrlFile, notes: Notes) -> None:
    strategy = trl.word("save_strategy")
    if strategy == "no":
        notes.converted("save_strategy", "train.checkpoint_every is not set")
        if trl.has("save_steps"):
            notes.anyway("save_steps", "save_strategy is no")
    elif strategy == "steps":
        _every(trl, notes, "save_steps", "train.checkpoint_every", trl.number("save_steps"))
        if trl.has("save_strategy"):
            notes.converted("save_strategy", "train.checkpoint_every")
    elif strategy == "best":
        notes.missing(
            "save_strategy", "best: train.keep_best keeps the best weights of a run with train.evaluate_every"
        )
    else:
        text = f"{strategy}: set train.checkpoint_every to the steps of an epoch"
        (notes.missing if trl.has("save_strategy") else notes.unsaid_only)("save_strategy", text)


def _every(trl: TrlFile, notes: Notes, key: str, option: str, value: float) -> bool:
    """Write a number of steps that may be a share of all steps; return whether it could be."""
    if value < 1:
        total = trl.count("max_steps")
        if total <= 0:
            notes.missing(
                key, f"a share of all steps, which are not known here: set {option} to a number of steps"
            )
            return False
        value = max(1.0, round(value * total))
    notes.write(trl, key, option, int(value), ours=None)
    return True


def _validation(trl: TrlFile, notes: Notes) -> None:
    strategy = trl.word("eval_strategy")
    validated = False
    if strategy == "steps":
        every = trl.number("eval_steps") if trl.has("eval_steps") else trl.number("logging_steps")
        key = "eval_steps" if trl.has("eval_steps") else "logging_steps"
        validated = _every(trl, notes, key, "train.evaluate_every", every)
        if trl.has("eval_strategy"):
            notes.converted("eval_strategy", "train.evaluate_every")
    elif strategy == "epoch":
        notes.missing("eval_strategy", "epoch: set train.evaluate_every to the steps of an epoch")
    elif trl.has("eval_strategy"):
        notes.converted("eval_strategy", "train.evaluate_every is not set")
    if trl.has("eval_steps") and strategy != "steps":
        notes.anyway("eval_steps", f"without effect: eval_strategy is {strategy}")
    if trl.has("logging_steps") and "logging_steps" not in notes.keys():
        notes.anyway("logging_steps", "every step's figures go to metrics.jsonl")
    _best(trl, notes, validated=validated)


def _best(trl: TrlFile, notes: Notes, *, validated: bool) -> None:
    metric = trl.word("metric_for_best_model") if trl.has("metric_for_best_model") else "loss"
    ours = metric.removeprefix("eval_")
    if not trl.flag("load_best_model_at_end"):
        for key in ("load_best_model_at_end", "metric_for_best_model"):
            if trl.has(key):
                notes.anyway(key, "without effect: load_best_model_at_end is off")
    elif not validated or ours not in _BEST:
        why = (
            f"{metric} is no figure of train.keep_best"
            if validated
            else "train.keep_best needs train.evaluate_every"
        )
        notes.missing("load_best_model_at_end", why)
        if trl.has("metric_for_best_model"):
            notes.missing("metric_for_best_model", why)
    else:
        notes.converted("load_best_model_at_end", "train.keep_best")
        notes.write(trl, "metric_for_best_model", "train.keep_best", ours, ours=None)
        notes.values["train"]["keep_best"] = ours


def migrate_stopping(trl: TrlFile, notes: Notes, key: str) -> None:
    """Write `train.early_stop` of the key by which a tool counts validations that got no better."""
    if not trl.has(key):
        return
    if notes.values.get("train", {}).get("evaluate_every") is None:
        notes.missing(key, "train.early_stop needs train.evaluate_every")
    else:
        notes.write(trl, key, "train.early_stop", trl.count(key), ours=None)


def _unsaid_precision(trl: TrlFile, notes: Notes) -> None:
    default = trl.get("bf16")
    if default != "auto":
        known = "off" if default is False else "on"
        notes.unsaid_only(
            "bf16", f"{trl.tool}'s default is {known}; engine.precision is auto: bf16 where the hardware has it"
        )


def migrate_engine(trl: TrlFile, notes: Notes) -> None:
    """Write the section `engine`; none of it changes a number beyond rounding."""
    if trl.flag("fp16"):
        notes.missing("fp16", "fp16 is not built; engine.precision is auto: bf16 where the hardware has it")
    elif trl.has("fp16"):
        notes.anyway("fp16", "fp16 is not built")
    if trl.has("bf16"):
        notes.write(trl, "bf16", "engine.precision", "bf16" if trl.flag("bf16") else "fp32", ours="auto")
    elif not trl.flag("fp16"):
        _unsaid_precision(trl, notes)
    key = "activation_checkpointing" if trl.has("activation_checkpointing") else "gradient_checkpointing"
    if trl.has(key):
        notes.write(trl, key, "engine.activation_checkpointing", trl.flag(key), ours="auto")
    else:
        notes.unsaid_only(
            key,
            f"{trl.tool}'s default is {'on' if trl.flag(key) else 'off'}; engine.activation_checkpointing is "
            "auto: when memory needs it",
        )
    if key == "activation_checkpointing" and trl.has("gradient_checkpointing"):
        notes.anyway("gradient_checkpointing", f"activation_checkpointing decides, in {trl.tool} too")
    notes.write(trl, "torch_compile", "engine.compile", trl.flag("torch_compile"), ours=False)
    if trl.flag("use_cpu"):
        notes.write(trl, "use_cpu", "engine.device", "cpu", ours="auto")
