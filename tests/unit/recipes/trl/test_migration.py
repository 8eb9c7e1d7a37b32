"""From a TRL file to a recipe: what is written, and that every key ends in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penchant.config import build_config
from penchant.errors import UsageError
from penchant.recipes import load_recipe
from penchant.recipes.account import Migration, migration_text
from penchant.recipes.trl.keys import KEYS, OLD_KEYS
from penchant.recipes.trl.migration import migrate, migrate_file

HANDBOOK = """
model_name_or_path: alignment-handbook/zephyr-7b-sft-qlora
torch_dtype: bfloat16
use_peft: true
load_in_4bit: yes
lora_r: 128
lora_alpha: 128
lora_dropout: 0.05
lora_target_modules: [q_proj, k_proj]
dataset_mixer:
  HuggingFaceH4/ultrafeedback_binarized: 1.0
bf16: true
beta: 0.01
eval_strategy: steps
eval_steps: 100
gradient_accumulation_steps: 4
gradient_checkpointing: true
learning_rate: 5.0e-6
lr_scheduler_type: cosine
max_length: 1024
max_prompt_length: 512
num_train_epochs: 1
optim: paged_adamw_32bit
output_dir: data/zephyr-7b-dpo-qlora
per_device_train_batch_size: 4
save_strategy: "steps"
save_steps: 100
seed: 42
warmup_ratio: 0.1
"""


def notes(migration: Migration, group: str) -> dict[str, str]:
    return {note.key: note.text for note in getattr(migration, group)}


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    path = tmp_path / "config_qlora.yaml"
    path.write_text(HANDBOOK, encoding="utf-8")
    return path


def test_a_file_of_the_handbook_becomes_a_recipe_that_loads(handbook: Path, tmp_path: Path) -> None:
    migration = migrate_file(handbook)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(migration_text(migration, handbook.name), encoding="utf-8")
    config = load_recipe(str(recipe))
    assert (config.model.path, config.model.lora_rank) == ("alignment-handbook/zephyr-7b-sft-qlora", 128)
    assert (config.model.lora_alpha, config.model.lora_targets) == (128, ("q_proj", "k_proj"))
    assert config.model.load_in_4bit
    assert (config.data.max_tokens, config.data.truncation) == (1024, "keep_start")
    assert (config.objective.loss, config.objective.beta) == ("dpo", 0.01)
    train = config.train
    assert (train.learning_rate, train.schedule, train.final_fraction) == (5e-6, "cosine", 0.0)
    assert (train.epochs, train.batch_pairs, train.warmup_fraction) == (1, 16, 0.1)
    assert (train.adam_beta2, train.optimizer, train.seed) == (0.999, "adamw", 42)
    assert (train.checkpoint_every, train.evaluate_every) == (100, 100)
    assert (config.engine.precision, config.engine.activation_checkpointing) == ("bf16", True)
    assert set(notes(migration, "lost")) == {"torch_dtype", "lora_dropout", "max_prompt_length"}
    text = recipe.read_text(encoding="utf-8")
    assert "#   max_prompt_length: no longer in TRL; prompts have no limit of their own" in text
    assert "Made from the TRL configuration config_qlora.yaml" in text


def test_an_empty_file_is_trl_as_it_is_without_one() -> None:
    """Every default of TRL's that is not ours is written and listed."""
    migration = migrate(None)
    config = build_config(migration.values)
    train = config.train
    assert (train.learning_rate, train.epochs, train.batch_pairs, train.seed) == (1e-6, 3, 8, 42)
    assert (train.schedule, train.final_fraction, train.warmup_steps) == ("linear", 0.0, 0)
    assert (train.optimizer, train.adam_beta1, train.adam_beta2) == ("adamw", 0.9, 0.999)
    assert (train.weight_decay, train.clip_norm, train.checkpoint_every) == (0.0, 1.0, 500)
    assert (config.data.max_tokens, config.data.truncation) == (1024, "keep_start")
    assert (config.objective.loss, config.objective.beta, config.objective.logps) == ("dpo", 0.1, "sum")
    assert set(notes(migration, "unsaid")) == {
        "max_length", "truncation_mode", "num_train_epochs", "lr_scheduler_type", "warmup_steps", "adam_beta2",
        "seed", "save_steps", "bf16", "gradient_checkpointing", "num_processes", "model_name_or_path",
    }  # fmt: skip
    assert not migration.lost
    assert not migration.taken


@pytest.mark.parametrize(
    ("keys", "gpus", "expected"),
    [
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}, 8, 128),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8, "num_processes": 4}, None, 64),
        ({"per_device_train_batch_size": 2, "num_processes": 4}, 2, 4),
        ({"gradient_accumulation_steps": 2}, None, 16),
        ({}, 1, 8),
    ],
)
def test_a_step_is_pairs_a_device_times_accumulation_times_devices(
    keys: dict[str, Any], gpus: int | None, expected: int
) -> None:
    migration = migrate(keys, gpus=gpus)
    assert migration.values["train"]["batch_pairs"] == expected
    assert ("num_processes" in notes(migration, "unsaid")) == (gpus is None and "num_processes" not in keys)


NOT_DEFAULT: dict[str, Any] = {
    "lr_scheduler_kwargs": {"num_cycles": 2},
    "lr_scheduler_type": "polynomial",
    "optim": "adafactor",
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "truncation_mode": "keep_end",
    "loss_type": ["hinge"],
    "loss_weights": [0.5],
    "f_divergence_type": "js_divergence",
    "metric_for_best_model": "eval_loss",
    "dtype": "bfloat16",
    "lora_target_modules": ["q_proj"],
    "model_name_or_path": "some/model",
    "beta": 0.3,
    "label_smoothing": 0.1,
    "max_length": 256,
    "warmup_ratio": 0.2,
    "adam_beta1": 0.8,
    "adam_beta2": 0.9,
}


def other_than(default: Any) -> Any:
    if isinstance(default, bool):
        return not default
    if isinstance(default, (int, float)):
        return abs(default) + 1
    return "something"


@pytest.mark.parametrize("key", [*KEYS, *OLD_KEYS])
def test_every_key_of_a_file_is_spoken_about(key: str) -> None:
    known = KEYS.get(key) or OLD_KEYS[key]
    value = NOT_DEFAULT.get(key, other_than(known.default))
    if known.fate == "converted" and known.default is None and key not in NOT_DEFAULT:
        value = key in ("bf16", "activation_checkpointing") or 3
    if key == "ld_alpha":
        value = 0.5
    migration = migrate({key: value})
    said = [name for group in ("taken", "needless", "placed", "lost") for name in notes(migration, group)]
    assert key in said
    assert all(note.text for _, group in migration.groups() for note in group)
    if known.fate == "none":
        assert key in notes(migration, "lost")
    build_config(migration.values)


def test_a_key_that_says_trls_default_needs_nothing() -> None:
    migration = migrate({"report_to": "none", "push_to_hub": False, "hub_token": None, "zzz": 1})
    assert set(notes(migration, "needless")) == {"report_to", "push_to_hub", "hub_token"}
    assert notes(migration, "lost") == {"zzz": "not a key of TRL 1.16."}


@pytest.mark.parametrize("value", ["wandb", ["tensorboard"], "all"])
def test_a_tracker_is_named_on_the_command_line(value: object) -> None:
    migration = migrate({"report_to": value, "trackio_space_id": "me/space"})
    assert set(notes(migration, "placed")) == {"report_to", "trackio_space_id"}
    assert "--track trackio" in notes(migration, "placed")["report_to"]


def test_a_mistyped_key_is_answered_with_the_nearest() -> None:
    found = notes(migrate({"learnin_rate": 1e-6}), "lost")
    assert found == {"learnin_rate": 'not a key of TRL 1.16. Did you mean "learning_rate"?'}


def test_older_names_are_understood_and_named_as_they_stand_in_the_file() -> None:
    migration = migrate({"evaluation_strategy": "steps", "eval_steps": 7})
    assert migration.values["train"]["evaluate_every"] == 7
    assert "evaluation_strategy" in notes(migration, "taken")
    with pytest.raises(UsageError, match="evaluation_strategy is an older name of eval_strategy, and both"):
        migrate({"evaluation_strategy": "no", "eval_strategy": "no"})


@pytest.mark.parametrize("values", [[1], "text", 3])
def test_what_is_no_mapping_is_refused(values: Any) -> None:
    with pytest.raises(UsageError, match="mapping from keys to values"):
        migrate(values)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learning_rate": "fast"}, "learning_rate = 'fast': a number is expected"),
        ({"learning_rate": True}, "a number is expected"),
        ({"learning_rate": float("inf")}, "a number is expected"),
        ({"max_steps": 1.5}, "max_steps = 1.5: a whole number is expected"),
        ({"bf16": 3}, "bf16 = 3: true or false is expected"),
        ({"optim": 3}, "optim = 3: a word is expected"),
        ({"lr_scheduler_kwargs": 3}, "a mapping is expected"),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": "low"}},
            "min_lr_rate = 'low': a number is expected",
        ),
        ({"learning_rate": 0}, "train.learning_rate = 0"),
        ({"max_length": 4}, "data.max_tokens = 4"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        migrate(keys, where="trl.yaml")
    assert str(caught.value).startswith("trl.yaml: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("path", ["plain/model", "5e-7", "no", "null", "a: b", "true", '"', "- x", "café", "#"])
def test_any_text_reads_back_as_it_was(path: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(migration_text(migrate({"model_name_or_path": path}), "x"), encoding="utf-8")
    assert load_recipe(str(recipe)).model.path == path


def test_text_of_the_file_stays_within_its_comment() -> None:
    """Neither a key nor a file's name may end the comment that it stands in."""
    text = migration_text(migrate({"odd\nmodel: {path: evil}\x1b[0m": 1}), "x\ny.yaml")
    assert all(line.startswith("#") for line in text.split("\ndata:")[0].splitlines())
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("HuggingFaceH4/ultrafeedback_binarized", "penchant prepare ultrafeedback --out data/mine"),
        ("Anthropic/hh-rlhf", "penchant prepare hh_rlhf --out data/mine"),
        ("some/other", "penchant prepare local --source FILE --out data/mine"),
    ],
)
def test_the_data_is_prepared_by_a_command(name: str, command: str) -> None:
    migration = migrate({"dataset_name": name})
    assert migration.prepare == command
    assert "penchant prepare" in notes(migration, "placed")["dataset_name"]
