"""What becomes of every field of TRL 1.16's DPOConfig and of every argument of its DPOTrainer: one fate each.

Names and defaults are those of `penchant.recipes.trl.keys`, which `penchant migrate` reads too. Here are the
places where a trainer in the same process can do more than a recipe, or has to be stricter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from penchant.recipes.trl.keys import TRAINING_KEYS, Key

Fate = Literal["taken", "already", "default only"]


@dataclass(frozen=True)
class Field:
    """A field or an argument.

    Attributes:
        default: TRL's.
        fate: "taken": its value decides something here; "already": accepted, the engine needs no such setting;
            "default only": any other value is refused.
        why: What it decides, or the reason.
    """

    default: Any
    fate: Fate
    why: str


_LOGGED = "which steps `log_history` holds; `metrics.jsonl` holds every step"
_TAKEN = {
    "output_dir": "the run directory",
    "per_device_train_batch_size": "`train.batch_pairs`, times accumulation and devices",
    "gradient_accumulation_steps": "`train.batch_pairs`; in how many passes is the engine's choice",
    "num_train_epochs": "`train.epochs`",
    "max_steps": "`train.max_steps`",
    "learning_rate": "`train.learning_rate`",
    "lr_scheduler_type": "`train.schedule`: linear, cosine, cosine_with_min_lr, constant, constant_with_warmup",
    "lr_scheduler_kwargs": "`train.final_fraction`, of cosine_with_min_lr",
    "warmup_steps": "`train.warmup_steps`, or below 1 `train.warmup_fraction`",
    "optim": "`train.optimizer`: AdamW, of 8 bits too, RMSprop",
    "weight_decay": "`train.weight_decay`, of matrices",
    "adam_beta1": "`train.adam_beta1`",
    "adam_beta2": "`train.adam_beta2`",
    "adam_epsilon": "1e-8 alone",
    "max_grad_norm": "`train.clip_norm`",
    "bf16": "`engine.precision`; not said: bf16 where the hardware has it",
    "fp16": "false alone",
    "gradient_checkpointing": "`engine.activation_checkpointing`; true: where memory needs it",
    "activation_checkpointing": "the same",
    "torch_compile": "`engine.compile`",
    "use_cpu": "`engine.device`",
    "seed": "`train.seed`: the order of the pairs is TRL's",
    "data_seed": "`train.seed`, before `seed`",
    "eval_strategy": "`train.evaluate_every`; needs `eval_dataset`",
    "eval_steps": "`train.evaluate_every`",
    "logging_strategy": _LOGGED,
    "logging_steps": _LOGGED,
    "logging_first_step": _LOGGED,
    "disable_tqdm": "no progress on the terminal",
    "save_strategy": "`train.checkpoint_every`; best: refused",
    "save_steps": "`train.checkpoint_every`",
    "save_total_limit": "none, 1 or 2: the two newest checkpoints are kept, which resume bit for bit",
    "load_best_model_at_end": "`train.keep_best`",
    "metric_for_best_model": "`train.keep_best`: loss, rewards/accuracies, /margins, /chosen, logps/chosen",
    "greater_is_better": "must fit the figure",
    "max_length": "`data.max_tokens`; there has to be a limit",
    "truncation_mode": "`data.truncation`: keep_start alone",
    "loss_type": "`objective.loss`; refused where ours would differ: bco_pair, aot, aot_unpaired, sft",
    "loss_weights": "`objective.loss`",
    "ld_alpha": "`objective.ld_alpha`",
    "f_divergence_type": "`objective.divergence`, of sigmoid",
    "f_alpha_divergence_coef": "`objective.divergence_alpha`, which counts from the other end",
    "label_smoothing": "`objective.label_smoothing` of robust and exo_pair; TRL ignores it elsewhere: refused",
    "beta": "`objective.beta`",
    "use_weighting": "false alone: `objective.wpo` limits weights to 1",
    "discopop_tau": "`objective.tau`",
    "sync_ref_model": "`objective.reference_every`",
    "ref_model_mixup_alpha": "`objective.reference_share`",
    "ref_model_sync_steps": "`objective.reference_every`",
    "model_init_kwargs": "dtype of 32 bits, and what has no effect here (`attn_implementation`, `use_cache`)",
    "router_aux_loss_coef": "none, or 0.0, which a mixture of experts needs: its auxiliary loss is not added",
}
_SHARED = "processes share the model without such settings"
_ALREADY = {
    "run_name": "no tracker is told; the run is its directory",
    "resume_from_checkpoint": "TRL's trainer does not read it either: give it to `train()`",
    "do_predict": "it says what a script does",
    "do_train": "it says what a script does",
    "do_eval": "it says what a script does",
    **dict.fromkeys(
        (
            "ddp_find_unused_parameters",
            "ddp_bucket_cap_mb",
            "ddp_broadcast_buffers",
            "ddp_static_graph",
            "ddp_backend",
            "ddp_timeout",
        ),
        _SHARED,
    ),
    **dict.fromkeys(
        ("log_on_each_node", "logging_nan_inf_filter", "log_level", "log_level_replica"),
        "one process speaks, and a loss that is not finite ends the run",
    ),
}
_SHARDED = "a script in one process does not shard: `torchrun -m penchant train ... --parallel fsdp` does"
_NO_UPLOAD = (
    "nothing is uploaded while training; afterwards: `penchant export OUTPUT_DIR --to hf --push USER/NAME`"
)
_DEFAULT_ONLY = {
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _SHARDED),
    **dict.fromkeys(
        (
            "push_to_hub",
            "hub_token",
            "hub_private_repo",
            "hub_model_id",
            "hub_strategy",
            "hub_always_push",
            "hub_revision",
        ),
        _NO_UPLOAD,
    ),
    "accelerator_config": "the order is that of accelerate's seedable sampler, its default",
    "include_num_input_tokens_seen": "`num_tokens` is logged anyway; of each step `tokens` in metrics.jsonl",
    "skip_memory_metrics": "the peak of memory stands in eval/training.json and in every line of metrics.jsonl",
    "debug": "what is not finite is found anyway, and the pairs are named",
    "dataloader_drop_last": "the last step of an epoch takes what is left",
    "train_sampling_strategy": "the order is TRL's random one",
    "full_determinism": "runs on a CPU repeat bit for bit anyway; there is no switch",
}


def _field(name: str, key: Key) -> Field:
    for fate, reasons in _BY_FATE.items():
        if name in reasons:
            return Field(key.default, fate, reasons[name])
    return Field(key.default, "already" if key.fate == "anyway" else "default only", key.why)


_BY_FATE: dict[Fate, dict[str, str]] = {"taken": _TAKEN, "already": _ALREADY, "default only": _DEFAULT_ONLY}

FIELDS: dict[str, Field] = {name: _field(name, key) for name, key in TRAINING_KEYS.items()}
"""Every field of TRL's DPOConfig, those of transformers' TrainingArguments among them."""

ARGUMENTS: dict[str, Field] = {
    "model": Field(
        None, "taken", "a name or a directory; or a loaded model, which has the trained weights afterwards"
    ),
    "ref_model": Field(None, "taken", "`model.reference`; a model equal to the policy is the policy as it began"),
    "args": Field(None, "taken", "this DPOConfig or TRL's own"),
    "data_collator": Field(None, "default only", "pairs are packed by the engine, without padding"),
    "train_dataset": Field(None, "taken", "a Dataset or a list of rows; read whole, never streamed"),
    "eval_dataset": Field(None, "taken", "one data set; for `eval_strategy` and `evaluate()`"),
    "processing_class": Field(None, "taken", "the tokenizer; not said: the model's own"),
    "compute_metrics": Field(
        None, "default only", "scores of the vocabulary never exist; `penchant eval OUTPUT_DIR` has figures"
    ),
    "callbacks": Field(
        None,
        "taken",
        "`EarlyStoppingCallback` alone (`train.early_stop`): others would hook into a loop that is not run",
    ),
    "optimizers": Field((None, None), "default only", "optimizer and schedule are made from `optim` and the like"),
    "quantization_config": Field(
        None, "default only", "for adapters on 4 bits: `penchant.train` with `model.load_in_4bit`"
    ),
    "peft_config": Field(None, "taken", "a LoraConfig without dropout: `model.lora_rank` and the like"),
}
"""Every argument of TRL's DPOTrainer."""
