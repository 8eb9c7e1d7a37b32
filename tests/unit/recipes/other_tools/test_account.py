"""Of any file of any tool: every key stands in exactly one group, and the recipe is valid."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.config import build_config
from penchant.recipes.account import Migration, migration_text
from penchant.recipes.axolotl import migration as axolotl
from penchant.recipes.axolotl.keys import AXOLOTL
from penchant.recipes.llamafactory import migration as llamafactory
from penchant.recipes.llamafactory.keys import LLAMAFACTORY
from penchant.recipes.trl import migration as trl
from penchant.recipes.trl.dialect import TRL, Dialect
from penchant.strict_yaml import parse_yaml

GROUPS = ("taken", "needless", "placed", "lost")
TOOLS = {"TRL": (TRL, trl), "axolotl": (AXOLOTL, axolotl), "LLaMA-Factory": (LLAMAFACTORY, llamafactory)}
# Values that are no default, by the tool's own name of the key; of what is not named here, any number will do.
VALUES: dict[str, Any] = {
    "loss_type": ["hinge"],
    "loss_weights": [0.5],
    "lr_scheduler_kwargs": {"num_cycles": 2},
    "lr_scheduler_type": "polynomial",
    "lr_scheduler": "rex",
    "optim": "adafactor",
    "optimizer": "muon",
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "truncation_mode": "keep_end",
    "f_divergence_type": "js_divergence",
    "metric_for_best_model": "eval_loss",
    "dtype": "bfloat16",
    "label_smoothing": 0.1,
    "dpo_label_smoothing": 0.1,
    "adam_beta1": 0.8,
    "adam_beta2": 0.9,
    "ld_alpha": 0.5,
    "warmup_ratio": 0.2,
    "max_length": 256,
    "cutoff_len": 256,
    "sequence_len": 256,
    "lora_target_modules": ["q_proj"],
    "lora_target": "q_proj,v_proj",
    "lora_r": 8,
    "lora_alpha": 8,
    "bf16": "yes",
    "activation_checkpointing": True,
    "rl": "dpo",
    "trl": {"beta": 0.2, "use_vllm": True},
    "adapter": None,
    "quantization_bit": 8,
    "stage": "dpo",
    "pref_loss": "hinge",
    "finetuning_type": "freeze",
    "mask_history": True,
    "unfrozen_parameters": ["^lm_head.weight$", "model.layers.2[0-9]+.mlp"],
    "datasets": [{"path": "some/pairs", "type": "chatml.intel", "field_chosen": "good"}],
    "test_datasets": [{"path": "some/more"}],
    "template": "llama3",
    "dataset": "one,two",
    "dataset_dir": "nowhere",
    "ref_model": "some/model",
    "dataset_name": "some/pairs",
    "cosine_min_lr_ratio": 0.2,
    "freeze_trainable_modules": "mlp",
    "freeze_extra_modules": "embed_tokens",
    "adapter_name_or_path": "some/adapter",
    "additional_target": "lm_head",
}  # fmt: skip


def other_than(default: Any) -> Any:
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return int(abs(default)) + 1
    return "something" if isinstance(default, str) else 1


def value_of(name: str, dialect: Dialect) -> Any:
    known = dialect.key(dialect.names.get(name, name))
    if name in VALUES:
        return VALUES[name]
    if known.fate == "converted" and known.default is None:
        flags = (
            "use_",
            "load_",
            "peft_use",
            "float",
            "bfloat",
            "fp16",
            "lora_target_linear",
            "dpo_norm",
            "dpo_use",
        )
        return name.startswith(flags) or ("torch_compile" in name) or ("model" in name and "some/model") or 1
    return other_than(known.default)


def grouped(migration: Migration) -> list[str]:
    return [note.key for group in GROUPS for note in getattr(migration, group)]


def said_once(migration: Migration, keys: set[str]) -> None:
    """Every key once, no other key, and a line about each. (That the recipe is valid, `migrate` sees to.)"""
    assert sorted(grouped(migration)) == sorted(keys)
    assert all(note.text for _, group in migration.groups() for note in group)


def check(migration: Migration, keys: set[str]) -> None:
    """Likewise, and the recipe is read back as what it was."""
    said_once(migration, keys)
    assert parse_yaml(migration_text(migration, "file.yaml"), where="recipe") == migration.values


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=25)
@given(data=st.data())
def test_every_key_stands_in_exactly_one_group(tool: str, data: st.DataObject) -> None:
    dialect, module = TOOLS[tool]
    names = sorted(dialect.accepted - dialect.older.keys())
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=25))
    values = {name: value_of(name, dialect) for name in chosen}
    values |= dict.fromkeys(data.draw(st.lists(st.sampled_from(["zzz", "no_such_key"]), unique=True)), 1)
    check(module.migrate(values), set(values))


@pytest.mark.parametrize("tool", ["axolotl", "LLaMA-Factory"])
def test_each_key_alone_is_spoken_about_in_its_fate(tool: str) -> None:
    dialect, module = TOOLS[tool]
    for name in sorted(dialect.accepted):
        migration = module.migrate({name: value_of(name, dialect)})
        said_once(migration, {name})
        known = dialect.key(dialect.names.get(name, name))
        if known.fate == "none" and value_of(name, dialect) is not None:
            assert [note.key for note in migration.lost] == [name]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_table_explains_what_is_not_converted_and_names_lead_into_it(tool: str) -> None:
    dialect, _ = TOOLS[tool]
    tables = {**dialect.keys, **dialect.old}
    assert [name for name, key in tables.items() if key.fate != "converted" and not key.why] == []
    assert set(dialect.names.values()) <= set(dialect.keys)
    assert not set(dialect.names) & (set(dialect.keys) - set(dialect.names.values()))
    assert set(dialect.older.values()) <= dialect.accepted
    assert not set(dialect.older) & dialect.accepted


@pytest.mark.parametrize("tool", TOOLS)
def test_an_empty_file_is_the_tool_as_it_is(tool: str) -> None:
    dialect, module = TOOLS[tool]
    migration = module.migrate(None)
    assert grouped(migration) == []
    assert migration.unsaid
    assert build_config(migration.values).train.seed == 42, dialect
