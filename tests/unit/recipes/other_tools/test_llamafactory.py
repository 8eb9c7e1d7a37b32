"""LLaMA-Factory's files, keys as its examples have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from penchant.config import build_config
from penchant.errors import DataError, UsageError
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import pair_losses
from penchant.recipes.account import Migration
from penchant.recipes.llamafactory.migration import migrate

DPO_LORA: dict[str, Any] = {
    "model_name_or_path": "some/Llama-8B-Instruct",
    "trust_remote_code": True,
    "stage": "dpo",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_target": "all",
    "pref_beta": 0.2,
    "pref_loss": "sigmoid",
    "dataset": "demo",
    "template": "llama3",
    "cutoff_len": 1024,
    "max_samples": 1000,
    "overwrite_cache": True,
    "output_dir": "saves/x",
    "save_steps": 500,
    "plot_loss": True,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 5.0e-6,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
    "val_size": 0.1,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "early_stopping_steps": 5,
    "pref_bta": 0.1,
}


def notes(migration: Migration, group: str) -> dict[str, str]:
    return {note.key: note.text for note in getattr(migration, group)}


def test_a_file_with_adapters_becomes_a_recipe() -> None:
    migration = migrate(DPO_LORA, devices=2)
    found = build_config(migration.values)
    assert (found.model.path, found.model.lora_rank, found.model.lora_alpha) == ("some/Llama-8B-Instruct", 8, 16)
    assert (found.objective.loss, found.objective.beta) == ("dpo", 0.2)
    assert (found.data.max_tokens, found.data.truncation) == (1024, "cut")
    train = found.train
    assert (train.batch_pairs, train.epochs, train.learning_rate) == (16, 3, 5e-6)
    assert (train.schedule, train.warmup_fraction, train.adam_beta2) == ("cosine", 0.1, 0.999)
    assert (train.checkpoint_every, train.evaluate_every, train.early_stop) == (500, 500, 5)
    assert found.engine.precision == "bf16"
    assert set(notes(migration, "lost")) == {"trust_remote_code", "dataset", "template", "pref_bta"}
    assert 'Did you mean "pref_beta"?' in notes(migration, "lost")["pref_bta"]
    assert migration.prepare.endswith("--limit 1000 --test-fraction 0.1")


def trainers_loss(name: str, c: float, r: float, keys: dict[str, float], tokens: tuple[float, float]) -> float:
    """What LLaMA-Factory's trainer makes of sums of log-ratios, or for orpo and simpo of log-probabilities."""
    beta = keys.get("pref_beta", 0.1)
    soft = torch.nn.functional.softplus
    chosen, rejected = torch.tensor(c, dtype=torch.float64), torch.tensor(r, dtype=torch.float64)
    if name in ("ipo", "orpo", "simpo"):
        chosen, rejected = chosen / tokens[0], rejected / tokens[1]
    gap = chosen - rejected
    if name == "sigmoid":
        e = keys.get("dpo_label_smoothing", 0.0)
        return float((1 - e) * soft(-beta * gap) + e * soft(beta * gap))
    if name == "hinge":
        return float(torch.relu(1 - beta * gap))
    if name == "ipo":
        return float((gap - 1 / (2 * beta)) ** 2)
    if name == "simpo":
        return float(soft(-beta * (gap - keys.get("simpo_gamma", 0.5) / beta)))
    odds = gap - (torch.log1p(-chosen.exp()) - torch.log1p(-rejected.exp()))
    return float(-chosen + beta * soft(-odds))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("sigmoid", {"pref_beta": 0.3}),
        ("sigmoid", {"dpo_label_smoothing": 0.1}),
        ("hinge", {}),
        ("ipo", {"pref_beta": 0.2}),
        ("orpo", {"pref_beta": 0.4}),
        ("simpo", {}),
        ("simpo", {"pref_beta": 2.5, "simpo_gamma": 1.5}),
    ],
)
@pytest.mark.parametrize("likelihood", [0.0, 0.5])
def test_the_objective_is_the_trainers_loss(name: str, keys: dict[str, float], likelihood: float) -> None:
    found = migrate({"stage": "dpo", "pref_loss": name, "pref_ftx": likelihood, **keys})
    if name == "orpo" and likelihood:
        assert "does not go with orpo" in notes(found, "lost")["pref_ftx"]
        likelihood = 0.0
    objective = build_config({"objective": found.values["objective"]}).objective
    tokens = 4.0, 9.0

    def logps(chosen: float, rejected: float) -> PairLogps:
        columns = (torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected, *tokens))
        return PairLogps(*columns)

    ours = float(pair_losses(objective)(logps(-11.0, -19.0), logps(-12.5, -18.2)))
    ratios = (-11.0, -19.0) if name in ("orpo", "simpo") else (1.5, -0.8)
    theirs = trainers_loss(name, *ratios, keys, tokens) + likelihood * 11.0 / 4.0
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_what_is_only_near_says_in_what_it_differs() -> None:
    keys = {"stage": "dpo", "pref_bco_weight": 0.25, "ld_alpha": 0.5}
    found = migrate(keys)
    assert found.values["objective"] == {"loss": {"dpo": 0.8, "bco": 0.2}, "ld_alpha": 0.5}
    lost = notes(found, "lost")
    assert "running mean" in lost["pref_bco_weight"]
    assert "policy's tokens alone" in lost["ld_alpha"]
    assert "nearest is KTO" in notes(migrate({"stage": "dpo", "pref_loss": "kto_pair"}), "lost")["pref_loss"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"finetuning_type": "full"}, {}),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": 3}, {"last_layers": 3}),
        ({"finetuning_type": "freeze"}, {"last_layers": 2}),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": -2}, {"train": ["layers.0", "layers.1"]}),
        ({}, {"lora_rank": 8, "lora_alpha": 16.0}),
        ({"lora_rank": 4, "lora_target": "q_proj, v_proj", "quantization_bit": 4, "use_dora": False},
         {"lora_rank": 4, "lora_alpha": 8.0, "lora_targets": ["q_proj", "v_proj"], "load_in_4bit": True}),
        ({"finetuning_type": "full", "stage": "dpo", "ref_model": "some/model"}, {"reference": "some/model"}),
    ],
)  # fmt: skip
def test_each_method_becomes_what_is_trained(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    assert migrate(keys).values.get("model", {}) == expected


def test_sft_scores_every_turn_unless_history_is_masked() -> None:
    assert migrate({"stage": "sft"}).values["data"]["loss_turns"] == "all_assistant"
    assert "loss_turns" not in migrate({"stage": "sft", "mask_history": True}).values["data"] or (
        migrate({"stage": "sft", "mask_history": True}).values["data"]["loss_turns"] == "last"
    )
    assert "loss_turns" not in migrate({"stage": "dpo"}).values["data"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stage": "ppo"}, "stage: ppo has no counterpart"),
        ({"stage": "rm"}, "reward model"),
        ({"stage": "dpoo"}, 'Did you mean "dpo"'),
        ({"stage": "dpo", "pref_loss": "sigmod"}, 'Did you mean "sigmoid"'),
        ({"finetuning_type": "lor"}, 'Did you mean "lora"'),
        ({"stage": "dpo", "pref_loss": "hinge", "dpo_label_smoothing": 0.1}, "pref_loss: sigmoid alone"),
        ({"stage": "dpo", "pref_beta": "much"}, "pref_beta = 'much': a number is expected"),
    ],
)
def test_what_has_no_counterpart_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        migrate(keys)
    assert message in str(caught.value)


def test_the_registry_of_data_sets_says_the_file_and_what_to_rename(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    entry = {
        "file_name": "pairs.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "dialogue", "chosen": "chosen", "rejected": "bad", "images": "pictures"},
        "tags": {"user_tag": "human", "assistant_tag": "bot"},
    }
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps({"mine": entry}), encoding="utf-8")
    migration = migrate({"dataset": "mine,other"}, folder=tmp_path)
    assert migration.prepare == f"penchant prepare local --source {tmp_path}/data/pairs.json --out data/mine"
    lost = notes(migration, "lost")["dataset"]
    for text in (
        "rename the column dialogue to conversations",
        "rename the column bad to rejected",
        "rename the word bot to gpt",
        "columns.images is not read",
        "other: ",
        "penchant prepare mix",
    ):
        assert text in lost
    (tmp_path / "data" / "dataset_info.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="no JSON object"):
        migrate({"dataset": "mine"}, folder=tmp_path)
