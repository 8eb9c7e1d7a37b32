"""axolotl's files, keys as its examples have them."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.config import Config, build_config
from penchant.errors import UsageError
from penchant.recipes.account import Migration
from penchant.recipes.axolotl.migration import migrate

DPO_LORA: dict[str, Any] = {
    "base_model": "some/Llama-8B-Instruct",
    "model_type": "LlamaForCausalLM",
    "special_tokens": {"pad_token": "<|pad|>"},
    "load_in_8bit": True,
    "chat_template": "llama3",
    "rl": "dpo",
    "rl_beta": 0.05,
    "datasets": [
        {
            "path": "some/pairs",
            "type": "chat_template.default",
            "field_messages": "conversation",
            "roles": {"user": ["user", "person"], "assistant": ["assistant"]},
        }
    ],
    "val_set_size": 0.05,
    "sequence_len": 4096,
    "adapter": "lora",
    "lora_r": 32,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_target_linear": True,
    "wandb_project": None,
    "gradient_accumulation_steps": 4,
    "micro_batch_size": 2,
    "num_epochs": 4,
    "optimizer": "adamw_bnb_8bit",
    "lr_scheduler": "cosine",
    "learning_rate": "2e-4",
    "bf16": "auto",
    "gradient_checkpointing": "offload",
    "flash_attention": True,
    "warmup_steps": 10,
    "evals_per_epoch": 4,
    "deepspeed": "zero3.json",
    "lora_targt_linear": True,
}


def notes(migration: Migration, group: str) -> dict[str, str]:
    return {note.key: note.text for note in getattr(migration, group)}


def config(**keys: Any) -> Config:
    return build_config(migrate(keys).values)


def test_a_file_with_adapters_becomes_a_recipe() -> None:
    migration = migrate(DPO_LORA, devices=4)
    found = build_config(migration.values)
    assert (found.model.path, found.model.lora_rank, found.model.lora_alpha) == ("some/Llama-8B-Instruct", 32, 16)
    assert found.model.lora_targets is None
    assert (found.objective.loss, found.objective.beta, found.data.max_tokens) == ("dpo", 0.05, 4096)
    train = found.train
    assert (train.batch_pairs, train.epochs, train.learning_rate, train.optimizer) == (32, 4, 2e-4, "adamw_8bit")
    assert (train.schedule, train.final_fraction, train.warmup_steps) == ("cosine", 0.0, 10)
    assert (found.engine.activation_checkpointing, found.engine.precision) == (True, "auto")
    lost = notes(migration, "lost")
    assert set(lost) == {
        "load_in_8bit", "lora_dropout", "chat_template", "special_tokens", "datasets", "evals_per_epoch",
        "gradient_checkpointing", "lora_targt_linear",
    }  # fmt: skip
    assert 'Did you mean "lora_target_linear"?' in lost["lora_targt_linear"]
    assert "rename the column conversation to messages" in lost["datasets"]
    assert "these roles are not known: person" in lost["datasets"]
    assert "--parallel fsdp" in notes(migration, "placed")["deepspeed"]
    assert migration.prepare == "penchant prepare local --source FILE --out data/mine --test-fraction 0.05"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"rl": "dpo", "dpo_beta": 0.3}, {"loss": "dpo", "beta": 0.3}),
        ({"rl": "dpo", "dpo_norm_loss": True}, {"loss": "dpo", "logps": "mean"}),
        ({"rl": "dpo", "dpo_label_smoothing": 0.1}, {"loss": "dpo", "label_smoothing": 0.1}),
        ({"rl": "dpo", "rpo_alpha": 0.5, "trl": {"beta": 0.2}}, {"loss": "dpo", "beta": 0.2, "nll_weight": 0.5}),
        ({"rl": "ipo"}, {"loss": "ipo", "logps": "mean"}),
        ({"rl": "orpo", "orpo_alpha": 0.2}, {"loss": "orpo", "beta": 0.2}),
        ({"rl": "orpo", "orpo_alpha": 0.2, "rl_beta": 0.4}, {"loss": "orpo", "beta": 0.4}),
        ({"rl": "simpo"}, {"loss": "simpo", "beta": 0.1, "gamma": 0.5, "nll_weight": 1.0}),
        ({"rl": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 1.2, "rl_beta": 2.0},
         {"loss": "simpo", "beta": 2.0, "gamma": 1.2, "nll_weight": 0.0}),
        ({"rl": "kto", "kto_undesirable_weight": 0.2}, {"loss": "kto", "undesirable_weight": 0.2}),
        ({}, {"loss": "sft"}),
    ],
)  # fmt: skip
def test_each_kind_of_training_becomes_its_objective(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    written = migrate(keys).values["objective"]
    assert written == expected
    build_config({"objective": written})


@pytest.mark.parametrize("kind", ["grpo", "gdpo", "ebft"])
def test_training_on_own_samples_is_refused_with_where_it_is(kind: str) -> None:
    with pytest.raises(UsageError, match=f"rl: {kind} learns from rewards") as caught:
        migrate({"rl": kind})
    assert "penchant online" in str(caught.value)


def test_a_mistyped_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='Did you mean "dpo"'):
        migrate({"rl": "dpoo"})


def test_the_whole_batch_may_be_given_in_place_of_accumulation() -> None:
    migration = migrate({"micro_batch_size": 2, "batch_size": 16}, devices=3)
    assert migration.values["train"]["batch_pairs"] == 48
    assert set(notes(migration, "taken")) == {"micro_batch_size", "batch_size"}


def test_unsaid_defaults_are_axolotls() -> None:
    found = config(rl="dpo")
    assert (found.train.batch_pairs, found.train.epochs, found.train.warmup_fraction) == (1, 1.0, 0.03)
    assert (found.train.schedule, found.train.seed, found.data.max_tokens) == ("cosine", 42, 512)


def test_steps_between_validations_switch_them_on() -> None:
    keys = {"eval_steps": 20, "save_steps": 40, "early_stopping_patience": 3}
    found = config(**keys)
    assert (found.train.evaluate_every, found.train.checkpoint_every, found.train.early_stop) == (20, 40, 3)
    assert (
        "train.early_stop needs"
        in notes(migrate({"early_stopping_patience": 3}), "lost")["early_stopping_patience"]
    )


def test_a_floor_of_the_rate_is_the_final_fraction() -> None:
    migration = migrate({"cosine_min_lr_ratio": 0.2})
    assert migration.values["train"]["final_fraction"] == 0.2
    assert "cosine_min_lr_ratio" in notes(migration, "taken")
    linear = migrate({"cosine_min_lr_ratio": 0.2, "lr_scheduler": "linear"})
    assert "cosine_min_lr_ratio" in notes(linear, "needless")


def test_unfrozen_parameters_become_globs_where_they_read_the_same() -> None:
    migration = migrate({"unfrozen_parameters": ["^lm_head.weight$", "model.layers.(2|3)\\d"]})
    assert migration.values["model"]["train"] == ["lm_head.weight"]
    lost = notes(migration, "lost")["unfrozen_parameters"]
    assert "is left out" in lost
    assert "beginnings of names" in lost
    with_adapters = migrate({"adapter": "lora", "lora_r": 8, "lora_alpha": 8, "unfrozen_parameters": ["lm_head"]})
    assert "model.lora_targets" in notes(with_adapters, "lost")["unfrozen_parameters"]


def test_an_adapter_of_another_kind_is_no_lora() -> None:
    migration = migrate({"adapter": "llama-adapter"})
    assert "lora_rank" not in migration.values.get("model", {})
    assert "all weights are trained" in notes(migration, "lost")["adapter"]


def test_errors_name_keys_as_the_file_does() -> None:
    with pytest.raises(UsageError, match="micro_batch_size = 'two'"):
        migrate({"micro_batch_size": "two"})
    with pytest.raises(UsageError, match="dpo_beta is an older name of rl_beta"):
        migrate({"dpo_beta": 0.1, "rl_beta": 0.2})
