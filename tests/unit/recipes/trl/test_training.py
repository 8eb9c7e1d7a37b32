"""Steps, schedules, optimizers, validation, adapters and precision of a TRL file in ours."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.config import build_config
from penchant.recipes.trl.migration import migrate
from penchant.training.schedule import learning_rate


def section(name: str, **keys: Any) -> dict[str, Any]:
    return migrate(keys).values.get(name, {})


def lost(**keys: Any) -> dict[str, str]:
    return {note.key: note.text for note in migrate(keys).lost}


def test_max_steps_decides_how_long_it_takes_as_in_trl() -> None:
    train = section("train", max_steps=1000, num_train_epochs=1)
    assert (train["max_steps"], train["epochs"]) == (1000, 1000)
    assert "max_steps" not in section("train", max_steps=-1)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"warmup_steps": 50}, {"warmup_steps": 50}),
        ({"warmup_steps": 0.1}, {"warmup_fraction": 0.1}),
        ({"warmup_ratio": 0.2}, {"warmup_fraction": 0.2}),
        ({"warmup_ratio": 0.2, "warmup_steps": 7}, {"warmup_steps": 7}),
        ({"lr_scheduler_type": "constant", "warmup_steps": 50}, {"warmup_steps": 0, "schedule": "constant"}),
        (
            {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 50},
            {"warmup_steps": 50, "schedule": "constant"},
        ),
        ({"lr_scheduler_type": "cosine"}, {"schedule": "cosine", "final_fraction": 0.0}),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-7}},
            {"schedule": "cosine", "final_fraction": 0.1},
        ),
        (
            {
                "lr_scheduler_type": "warmup_stable_decay",
                "lr_scheduler_kwargs": {"num_decay_steps": 25, "decay_type": "1-sqrt"},
                "max_steps": 100,
            },
            {"schedule": "wsd", "decay_fraction": 0.25, "final_fraction": 0.0},
        ),
        ({"optim": "rmsprop"}, {"optimizer": "rmsprop"}),
        ({"optim": "adamw_bnb_8bit", "adam_beta2": 0.98}, {"optimizer": "adamw_8bit", "adam_beta2": 0.98}),
        ({"max_grad_norm": 0}, {"clip_norm": None}),
        ({"save_strategy": "no"}, {}),
        ({"save_steps": 0.1, "max_steps": 200}, {"checkpoint_every": 20}),
        ({"eval_strategy": "steps"}, {"evaluate_every": 10}),
        ({"eval_strategy": "steps", "logging_steps": 5}, {"evaluate_every": 5}),
        (
            {
                "eval_strategy": "steps",
                "eval_steps": 20,
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_rewards/accuracies",
            },
            {"evaluate_every": 20, "keep_best": "rewards/accuracies"},
        ),
    ],
)
def test_training_options(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    train = section("train", **keys)
    assert {name: train.get(name) for name in expected} == {
        name: pytest.approx(value) if isinstance(value, float) else value for name, value in expected.items()
    }
    if "save_strategy" in keys:
        assert "checkpoint_every" not in train
    if "optimizer" in expected and expected["optimizer"] == "rmsprop":
        assert "adam_beta2" not in train
    if "schedule" in expected and expected["schedule"] == "constant":
        assert "final_fraction" not in train


def trl_rate(step: int, warmup: int, total: int) -> float:
    """transformers' linear schedule: the factor of optimizer step `step`, from 0."""
    return step / warmup if step < warmup else (total - step) / (total - warmup)


def test_the_migrated_schedule_is_trls_one_step_ahead() -> None:
    config = build_config({"train": section("train", warmup_steps=4, learning_rate=1.0, max_steps=20)}).train
    ours = [learning_rate(config, step, 20) for step in range(20)]
    assert ours == pytest.approx([trl_rate(step + 1, 4, 20) for step in range(20)])


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"lr_scheduler_type": "polynomial"}, "lr_scheduler_type"),
        ({"lr_scheduler_kwargs": {"num_cycles": 2}}, "lr_scheduler_kwargs"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "lr_scheduler_type"),
        (
            {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 5}},
            "lr_scheduler_kwargs",
        ),
        ({"optim": "adafactor"}, "optim"),
        ({"adam_epsilon": 1e-6}, "adam_epsilon"),
        ({"save_strategy": "epoch"}, "save_strategy"),
        ({"save_strategy": "best"}, "save_strategy"),
        ({"save_steps": 0.1}, "save_steps"),
        ({"eval_strategy": "epoch"}, "eval_strategy"),
        ({"eval_strategy": "steps", "eval_steps": 0.1}, "eval_steps"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
        (
            {
                "eval_strategy": "steps",
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_entropy",
            },
            "metric_for_best_model",
        ),
        ({"max_length": None}, "max_length"),
        ({"truncation_mode": "keep_end"}, "truncation_mode"),
        ({"fp16": True}, "fp16"),
        ({"load_in_8bit": True}, "load_in_8bit"),
        ({"load_in_4bit": True}, "load_in_4bit"),
        ({"use_peft": True, "use_dora": True, "use_rslora": True}, "use_rslora"),
        ({"use_peft": True, "lora_dropout": 0.1}, "lora_dropout"),
        ({"use_peft": True, "lora_target_modules": r".*\.(q|v)_proj"}, "lora_target_modules"),
    ],
)
def test_what_has_no_twin_is_listed_and_the_recipe_is_still_valid(keys: dict[str, Any], key: str) -> None:
    assert key in lost(**keys)
    build_config(migrate(keys).values)


def test_adapters_have_trls_defaults_where_the_file_says_none() -> None:
    model = section("model", use_peft=True)
    assert (model["lora_rank"], model["lora_targets"]) == (16, ["q_proj", "v_proj"])
    assert "lora_targets" not in section("model", use_peft=True, lora_target_modules="all-linear")
    assert section("model", use_peft=True, use_rslora=True)["lora_variant"] == "rslora"
    assert section("model", lora_r=8) == {}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"bf16": True}, {"precision": "bf16"}),
        ({"bf16": "no"}, {"precision": "fp32"}),
        ({"gradient_checkpointing": False}, {"activation_checkpointing": False}),
        ({"gradient_checkpointing": True, "activation_checkpointing": False}, {"activation_checkpointing": False}),
        ({"torch_compile": True}, {"compile": True}),
        ({"use_cpu": True}, {"device": "cpu"}),
        ({}, {}),
    ],
)
def test_engine_options(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    assert section("engine", **keys) == expected
