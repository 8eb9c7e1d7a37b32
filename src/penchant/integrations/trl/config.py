"""`DPOConfig`: TRL's fields as far as they are accepted, in its signature; every other one says why it is not."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import Any, TypeVar

from penchant.errors import UsageError, did_you_mean
from penchant.integrations.trl.fields import FIELDS
from penchant.recipes.trl.keys import OLD_KEYS, RENAMED, TRL_VERSION

Class = TypeVar("Class", bound=type)


def _with_reasons(made: Class) -> Class:
    """Let a dataclass take the other fields of TRL's too, at their defaults; the rest raises with a reason."""
    plain = made.__init__

    @functools.wraps(plain)
    def init(self: Any, *values: Any, **named: Any) -> None:
        own = made.__dataclass_fields__
        others = {name: named.pop(name) for name in list(named) if name not in own}
        plain(self, *values, **named)
        for name, value in others.items():
            setattr(self, name, value)

    made.__init__ = init
    return made


@_with_reasons
@dataclass(repr=False)
class DPOConfig:
    """The configuration of `penchant.integrations.trl.DPOTrainer`, with the names and defaults of TRL 1.16.

    The signature holds the fields that are accepted: first those whose value decides something here, then those
    that the engine needs no setting for. `penchant.integrations.trl.fields` and docs/from-trl.md say of each what
    becomes of it. Fields of TRL's that are not in the signature may be given at their default; any other value
    raises UsageError with the reason, and so does a name that TRL does not have.
    """

    output_dir: str | None = None
    _: KW_ONLY
    # taken
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 3.0
    max_steps: int = -1
    learning_rate: float = 1e-6
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: dict | str | None = None
    warmup_steps: float = 0
    optim: str = "adamw_torch_fused"
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    bf16: bool | None = None
    fp16: bool = False
    gradient_checkpointing: bool = True
    activation_checkpointing: bool | None = None
    torch_compile: bool = False
    use_cpu: bool = False
    seed: int = 42
    data_seed: int | None = None
    eval_strategy: str = "no"
    eval_steps: float | None = None
    logging_strategy: str = "steps"
    logging_steps: float = 10
    logging_first_step: bool = False
    disable_tqdm: bool | None = None
    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    max_length: int | None = 1024
    truncation_mode: str = "keep_start"
    loss_type: list[str] = field(default_factory=lambda: ["sigmoid"])
    loss_weights: list[float] | None = None
    ld_alpha: float | None = None
    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    label_smoothing: float = 0.0
    beta: float = 0.1
    use_weighting: bool = False
    discopop_tau: float = 0.05
    sync_ref_model: bool = False
    ref_model_mixup_alpha: float = 0.6
    ref_model_sync_steps: int = 512
    model_init_kwargs: dict | str | None = None
    router_aux_loss_coef: float | None = None
    # accepted: the engine needs no such setting
    run_name: str | None = None
    resume_from_checkpoint: str | None = None
    do_train: bool = False
    do_eval: bool = False
    do_predict: bool = False
    per_device_eval_batch_size: int = 8
    prediction_loss_only: bool = False
    eval_do_concat_batches: bool = True
    eval_use_gather_object: bool = False
    eval_accumulation_steps: int | None = None
    include_for_metrics: list[str] = field(default_factory=list)
    batch_eval_metrics: bool = False
    average_tokens_across_devices: bool = True
    gradient_checkpointing_kwargs: dict | str | None = None
    activation_checkpointing_kwargs: dict | str | None = None
    use_liger_kernel: bool = False
    liger_kernel_config: dict | None = None
    use_cache: bool = False
    auto_find_batch_size: bool = False
    torch_empty_cache_steps: int | None = None
    log_on_each_node: bool = True
    logging_nan_inf_filter: bool = True
    log_level: str = "passive"
    log_level_replica: str = "warning"
    save_only_model: bool = False
    save_on_each_node: bool = False
    enable_jit_checkpoint: bool = False
    ignore_data_skip: bool = False
    restore_callback_states_from_checkpoint: bool = False
    dataloader_num_workers: int = 0
    dataloader_pin_memory: bool = True
    dataloader_persistent_workers: bool = False
    dataloader_prefetch_factor: int | None = None
    dataloader_multiprocessing_context: str | None = None
    dataloader_in_order: bool = True
    remove_unused_columns: bool = True
    label_names: list[str] | None = None
    length_column_name: str = "length"
    dataset_num_proc: int | None = None
    padding_free: bool = False
    pad_to_multiple_of: int | str | None = "auto"
    pad_token: str | None = None
    precompute_ref_log_probs: bool = False
    precompute_ref_batch_size: int | None = None
    local_rank: int = -1
    ddp_find_unused_parameters: bool | None = None
    ddp_bucket_cap_mb: int | None = None
    ddp_broadcast_buffers: bool | None = None
    ddp_static_graph: bool | None = None
    ddp_backend: str | None = None
    ddp_timeout: int = 1800

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field, or refuse with the reason."""
        object.__setattr__(self, name, accepted(name, value))

    def __getattr__(self, name: str) -> Any:
        """Return TRL's default of a field that has no other value here."""
        if name in FIELDS:
            return FIELDS[name].default
        raise AttributeError(f"DPOConfig has no {name}.{did_you_mean(name, FIELDS)}")

    def said(self) -> dict[str, Any]:
        """Return the fields whose values are not TRL's defaults."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value != FIELDS[name].default}

    def __repr__(self) -> str:
        """Return the fields that are not at their defaults."""
        return f"DPOConfig({', '.join(f'{name}={value!r}' for name, value in self.said().items())})"


def accepted(name: str, value: Any) -> Any:
    """Return a field's value as plain data.

    Raises:
        UsageError: TRL has no such field, or it is accepted at its default only and this is another value.
    """
    if name not in FIELDS:
        raise _unknown(name)
    value = plain(value)
    if name == "loss_type" and isinstance(value, str):
        value = [value]
    known = FIELDS[name]
    if known.fate == "default only" and not _nothing(name, value) and value != known.default:
        raise UsageError(
            f"{name} = {value!r} is not taken: {known.why}",
            where="DPOConfig",
            fix=f"Leave it out; TRL's default is {known.default!r}.",
        )
    return value


def plain(value: Any) -> Any:
    """Return a value as YAML would have it: words of transformers' enumerations, lists, paths as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return str(value) if hasattr(value, "__fspath__") else value


def _nothing(name: str, value: Any) -> bool:
    """Whether a value asks for nothing though the default is written in another way."""
    return value is None or (name in ("report_to", "debug", "fsdp") and value in ([], "none", ["none"], ""))


def _unknown(name: str) -> UsageError:
    if name in RENAMED:
        return UsageError(f"{name} is called {RENAMED[name]} in TRL {TRL_VERSION}", where="DPOConfig")
    if name in OLD_KEYS:
        why = f": {OLD_KEYS[name].why}" if OLD_KEYS[name].why else ""
        return UsageError(f"{name} is no longer a field of TRL {TRL_VERSION}{why}", where="DPOConfig")
    return UsageError(
        f"{name} is not a field of TRL {TRL_VERSION}.{did_you_mean(name, FIELDS)}", where="DPOConfig"
    )
