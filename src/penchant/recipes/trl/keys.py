"""Every key that a configuration file for TRL's `trl dpo` can hold, with its default and what becomes of it here.

Read from trl 1.16 with transformers 5.23: DPOConfig, ModelConfig, ScriptArguments and DatasetMixtureConfig, and
what the launcher reads. A test compares the table with an installed trl.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TRL_VERSION = "1.16"

Fate = Literal["converted", "anyway", "elsewhere", "none"]


@dataclass(frozen=True)
class Key:
    """A key of TRL's.

    Attributes:
        default: What TRL takes when it is not said.
        fate: "converted" by `penchant.recipes.trl.migration`; "anyway": it needs no setting here; "elsewhere": it
            goes to the command line; "none": there is no such thing here.
        why: The reason, or the place.
    """

    default: Any
    fate: Fate
    why: str = ""


def table(fate: Fate, why: str, /, **defaults: Any) -> dict[str, Key]:
    """Return keys that share what becomes of them and why, each with its default."""
    return {name: Key(default, fate, why) for name, default in defaults.items()}


TRACKED = "`penchant train ... --track trackio`, or tensorboard, or wandb; no other tracker is built"
SHARDED = (
    "`torchrun ... -m penchant train ... --parallel fsdp` shares the model among devices, see docs/parallel.md"
)

TRAINING_KEYS: dict[str, Key] = {
    **table(
        "converted",
        "",
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        num_train_epochs=3.0,
        max_steps=-1,
        learning_rate=1e-6,
        lr_scheduler_type="linear",
        lr_scheduler_kwargs=None,
        warmup_steps=0,
        optim="adamw_torch_fused",
        weight_decay=0.0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        bf16=None,
        fp16=False,
        gradient_checkpointing=True,
        activation_checkpointing=None,
        torch_compile=False,
        use_cpu=False,
        seed=42,
        eval_strategy="no",
        eval_steps=None,
        logging_steps=10,
        save_strategy="steps",
        save_steps=500,
        load_best_model_at_end=False,
        metric_for_best_model=None,
        max_length=1024,
        truncation_mode="keep_start",
        loss_type=["sigmoid"],
        loss_weights=None,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        f_alpha_divergence_coef=0.5,
        label_smoothing=0.0,
        beta=0.1,
        use_weighting=False,
        discopop_tau=0.05,
        sync_ref_model=False,
        ref_model_mixup_alpha=0.6,
        ref_model_sync_steps=512,
    ),
    **table(
        "anyway",
        "no number depends on how a step is split over devices",
        average_tokens_across_devices=True,
        accelerator_config=None,
    ),
    **table(
        "anyway",
        "activation checkpointing needs no arguments",
        gradient_checkpointing_kwargs=None,
        activation_checkpointing_kwargs=None,
    ),
    **table(
        "anyway",
        "the vocabulary's scores never exist at once",
        use_liger_kernel=False,
        liger_kernel_config=None,
    ),
    **table("anyway", "training keeps no key-value cache", use_cache=False),
    **table("anyway", "micro-batches that do not fit are halved", auto_find_batch_size=False),
    **table("anyway", "memory is handled by the engine", torch_empty_cache_steps=None, skip_memory_metrics=True),
    **table(
        "anyway",
        "every step's figures go to metrics.jsonl; --quiet silences the console",
        logging_strategy="steps",
        logging_first_step=False,
        log_on_each_node=True,
        logging_nan_inf_filter=True,
        include_num_input_tokens_seen="no",
        log_level="passive",
        log_level_replica="warning",
        disable_tqdm=None,
    ),
    **table(
        "anyway",
        "validation is exact for any batch and needs no such setting",
        per_device_eval_batch_size=8,
        prediction_loss_only=False,
        eval_do_concat_batches=True,
        eval_use_gather_object=False,
        eval_accumulation_steps=None,
        include_for_metrics=[],
        batch_eval_metrics=False,
    ),
    **table("anyway", "which way is better follows from the figure", greater_is_better=None),
    **table(
        "anyway",
        "a checkpoint holds all that an exact resume needs",
        save_only_model=False,
        save_on_each_node=False,
        enable_jit_checkpoint=False,
        ignore_data_skip=False,
        restore_callback_states_from_checkpoint=False,
    ),
    **table(
        "anyway",
        "pairs are packed without padding, tokenised once, and put in order by the seed",
        dataloader_num_workers=0,
        dataloader_pin_memory=True,
        dataloader_persistent_workers=False,
        dataloader_prefetch_factor=None,
        dataloader_multiprocessing_context=None,
        dataloader_in_order=True,
        remove_unused_columns=True,
        label_names=None,
        length_column_name="length",
        dataset_num_proc=None,
        padding_free=False,
        pad_to_multiple_of="auto",
        pad_token=None,
    ),
    **table(
        "anyway",
        "the reference is always scored once, before the first step, and stored",
        precompute_ref_log_probs=False,
        precompute_ref_batch_size=None,
    ),
    **table("anyway", "it says what a script does, which the command says here", do_train=False, do_eval=False),
    **table("anyway", "it has no effect on a run on one device", local_rank=-1, debug=""),
    **table("elsewhere", "--out names the run directory", output_dir=None, run_name=None),
    **table("elsewhere", "`penchant train ... --resume`", resume_from_checkpoint=None),
    **table("elsewhere", "`penchant generate RUN`", do_predict=False),
    **table(
        "none",
        "processes share the model without such settings, see docs/parallel.md",
        ddp_find_unused_parameters=None,
        ddp_bucket_cap_mb=None,
        ddp_broadcast_buffers=None,
        ddp_static_graph=None,
        ddp_backend=None,
        ddp_timeout=1800,
        parallelism_config=None,
    ),
    **table("elsewhere", SHARDED, fsdp=None, fsdp_config=None, deepspeed=None),
    **table("elsewhere", TRACKED, report_to="none"),
    **table("elsewhere", "WANDB_PROJECT or TRACKIO_PROJECT in the environment", project="huggingface"),
    **table("elsewhere", "TRACKIO_SPACE_ID in the environment", trackio_space_id=None),
    **table("none", "no Space is made or frozen", trackio_bucket_id=None, trackio_static_space_id=None),
    **table(
        "none",
        "nothing is uploaded; model/ in the run directory opens with transformers",
        push_to_hub=False,
        hub_token=None,
        hub_private_repo=None,
        hub_model_id=None,
        hub_strategy="every_save",
        hub_always_push=False,
        hub_revision=None,
    ),
    **table("none", "the optimizers take no such arguments", optim_args=None, optim_target_modules=None),
    **table(
        "none", "it smooths token labels; objective.label_smoothing is of preferences", label_smoothing_factor=0.0
    ),
    **table(
        "none",
        "validation runs in the precision of the run",
        bf16_full_eval=False,
        fp16_full_eval=False,
    ),
    **table("none", "products are fp32 or bf16 (engine.precision)", tf32=None),
    **table(
        "none", "compilation has one switch, engine.compile", torch_compile_backend=None, torch_compile_mode=None
    ),
    **table("none", "noise on embeddings is not built", neftune_noise_alpha=None),
    **table("none", "the first validation is after train.evaluate_every steps", eval_delay=0, eval_on_start=False),
    **table("none", "the two newest checkpoints are kept", save_total_limit=None),
    **table("none", "one seed serves all: train.seed", data_seed=None),
    **table("none", "runs on a CPU repeat bit for bit; there is no switch", full_determinism=False),
    **table(
        "none",
        "every step is full: at an epoch's end it takes the rest from the next epoch",
        dataloader_drop_last=False,
    ),
    **table(
        "none", "pairs are shuffled, or with train.order: prompts by prompt", train_sampling_strategy="random"
    ),
    **table("none", "the model is loaded in fp32 without further arguments", model_init_kwargs=None),
    **table("none", "code out of a model's files is never run", trust_remote_code=False),
    **table("none", "the auxiliary loss of mixtures of experts is not added", router_aux_loss_coef=None),
    **table("none", "dropout is always off", disable_dropout=True),
    **table("none", "activations are computed again, never moved", activation_offloading=False),
}

MODEL_KEYS: dict[str, Key] = {
    **table(
        "converted",
        "",
        model_name_or_path=None,
        dtype="float32",
        use_peft=False,
        lora_r=16,
        lora_alpha=32,
        lora_dropout=0.05,
        lora_target_modules=None,
        use_rslora=False,
        use_dora=False,
        load_in_4bit=False,
        load_in_8bit=False,
    ),
    **table("anyway", "engine.attention takes the fastest kernel that passes a test", attn_implementation=None),
    **table("anyway", "it is a language model", lora_task_type="CAUSAL_LM"),
    **table("none", "download that revision and name its directory as model.path", model_revision="main"),
    **table("none", "adapters go to linear layers", lora_target_parameters=None),
    **table("none", "beside adapters nothing else is trained", lora_modules_to_save=None),
    **table(
        "none",
        "4 bits are NF4, quantized once",
        bnb_4bit_quant_type="nf4",
        use_bnb_nested_quant=False,
        bnb_4bit_quant_storage=None,
    ),
}

DATA_KEYS: dict[str, Key] = {
    **table("elsewhere", "give it to `penchant prepare`", dataset_name=None, datasets=[]),
    **table("elsewhere", "`penchant prepare ... --subset NAME`", dataset_config=None),
    **table(
        "elsewhere",
        "a prepared folder has a train and a test split",
        dataset_train_split="train",
        dataset_test_split="test",
    ),
    **table("elsewhere", "`penchant prepare ... --test-fraction`", test_split_size=None),
    **table("none", "data is read whole, never streamed", dataset_streaming=False, streaming=False),
    **table("anyway", "a run on one device needs no such workaround", ignore_bias_buffers=False),
}

LAUNCHER_KEYS: dict[str, Key] = {
    **table("converted", "", num_processes=None),
    **table("elsewhere", "set environment variables in the shell", env=None),
    **table(
        "elsewhere",
        "torchrun starts the processes, see docs/parallel.md",
        accelerate_config=None,
        num_machines=None,
    ),
    **table("none", "engine.precision says it", mixed_precision=None),
}

OLD_KEYS: dict[str, Key] = {
    **table("converted", "", rpo_alpha=None, warmup_ratio=0.0, reference_free=False),
    **table(
        "none",
        "prompts have no limit of their own: data.max_tokens holds for prompt and response, and data.truncation: "
        "cut leaves data.response_fraction of it to the responses",
        max_prompt_length=None,
    ),
    **table("none", "responses have no limit of their own, see data.truncation", max_completion_length=None),
    **table(
        "anyway",
        "there is no padding and no label mask to fill",
        label_pad_token_id=None,
        padding_value=None,
        use_logits_to_keep=None,
        use_num_logits_to_keep=None,
        group_by_length=None,
    ),
    **table("anyway", "the vocabulary's scores never exist at once", use_liger_loss=None, use_liger=None),
    **table("anyway", "the reference of a run with adapters is the model without them", force_use_ref_model=None),
    **table("anyway", "a run directory that exists is never overwritten", overwrite_output_dir=None),
    **table("anyway", "engine.attention takes the fastest kernel that passes a test", use_flash_attention_2=None),
    **table("anyway", "tokenising takes no processes", preprocessing_num_workers=None),
    **table("anyway", "figures lie in the run directory", logging_dir=None),
    **table("elsewhere", "`penchant eval RUN` and `penchant generate RUN`", generate_during_eval=None),
    **table(
        "elsewhere",
        "give the data to `penchant prepare`",
        dataset_mixer=None,
        dataset_mixture=None,
        dataset_splits=None,
        dataset_configs=None,
    ),
    **table("none", "name an adapter's folder as model.path", model_adapter_name=None, ref_adapter_name=None),
    **table("none", "name another reference as model.reference", ref_model_init_kwargs=None),
    **table("none", "models with an encoder are not supported", is_encoder_decoder=None),
    **table("none", "the tokenizer's own template is used", chat_template=None, truncation_side=None, tools=None),
    **table("none", "nothing is uploaded", hub_model_revision=None),
    **table("none", "weights are saved as safetensors", save_safetensors=None),
}
"""Keys of earlier versions of TRL and transformers, or of the alignment handbook's own scripts."""

RENAMED = {
    "torch_dtype": "dtype",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
}
"""Older names of keys."""

KEYS: dict[str, Key] = {**TRAINING_KEYS, **MODEL_KEYS, **DATA_KEYS, **LAUNCHER_KEYS}
"""Every key that TRL reads today."""
