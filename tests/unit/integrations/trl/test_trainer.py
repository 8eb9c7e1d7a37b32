"""What scripts do with a trainer, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, PrefixTuningConfig
from safetensors.torch import load_file
from tests.oracles.trl_courses import rows_of
from tests.tiny import save_tiny, tiny_family, tiny_llama, tiny_tokenizer
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, PreTrainedModel, TrainerCallback

from penchant.errors import DataError, ModelError, UsageError
from penchant.integrations.trl import DPOConfig, DPOTrainer
from penchant.integrations.trl.following import Printer

ROWS = rows_of("messages", 6)


def options(folder: Path, **changes: Any) -> DPOConfig:
    usual: dict[str, Any] = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "learning_rate": 1e-3}
    usual |= {"bf16": False, "use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no"}
    return DPOConfig(str(folder / "out"), **{**usual, **changes})


def trainer_of(folder: Path, rows: Any = ROWS, *, start: Any = None, **changes: Any) -> DPOTrainer:
    given = {
        name: changes.pop(name) for name in list(changes) if name in ("eval_dataset", "peft_config", "callbacks")
    }
    given |= {name: changes.pop(name) for name in list(changes) if name in ("ref_model", "processing_class")}
    model = save_tiny(folder / "start", tiny_llama(layers=1)) if start is None else start
    return DPOTrainer(model=model, args=options(folder, **changes), train_dataset=rows, **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    """A run on objects: the caller's model and tokenizer, a list of rows."""
    folder = tmp_path_factory.mktemp("done")
    given: dict[str, Any] = {"start": tiny_llama(layers=1), "processing_class": tiny_tokenizer()}
    trainer = trainer_of(folder, eval_dataset=rows_of("messages", 3, seed=1), **given)
    with pytest.raises(UsageError, match="nothing is trained yet"):
        trainer.save_model()
    before = trainer.evaluate()
    assert before["eval_loss"] == pytest.approx(0.693147, abs=1e-6)
    assert (before["eval_rewards/margins"], before["eval_rewards/accuracies"]) == (0, 0)
    trainer.train()
    return trainer


def folder_of(trainer: DPOTrainer) -> Path:
    return Path(str(trainer.args.output_dir))


def same(model: PreTrainedModel, file: Path) -> bool:
    weights, own = load_file(file), model.state_dict()
    return all(torch.equal(own[name], weight) for name, weight in weights.items())


def test_the_callers_model_has_the_trained_weights_and_the_run_lies_in_the_output_directory(
    done: DPOTrainer,
) -> None:
    run = folder_of(done)
    assert same(done.model, run / "model" / "model.safetensors")
    assert not same(tiny_llama(layers=1), run / "model" / "model.safetensors")
    assert {"config.yaml", "metrics.jsonl", "ledger.parquet", "eval"} <= {path.name for path in run.iterdir()}
    assert done.processing_class.eos_token_id == tiny_tokenizer().eos_token_id


def test_what_is_saved_opens_with_transformers(done: DPOTrainer, tmp_path: Path) -> None:
    done.save_model()
    done.save_model(tmp_path / "elsewhere")
    for folder in (folder_of(done), tmp_path / "elsewhere"):
        assert same(AutoModelForCausalLM.from_pretrained(folder), folder_of(done) / "model" / "model.safetensors")
        assert (folder / "tokenizer.json").is_file()


def test_evaluating_compares_with_the_start_also_after_training(done: DPOTrainer) -> None:
    found = done.evaluate()
    assert found["eval_loss"] < 0.69
    assert found["eval_rewards/margins"] == pytest.approx(
        found["eval_rewards/chosen"] - found["eval_rewards/rejected"]
    )
    assert done.state.log_history[-1] == {**found, "step": 2}
    both = done.evaluate({"a": rows_of("messages", 3, seed=1), "b": ROWS})
    assert both["eval_a_loss"] == pytest.approx(found["eval_loss"])
    assert "eval_b_loss" in both


def test_figures_go_to_the_files_that_scripts_read(done: DPOTrainer, capsys: pytest.CaptureFixture[str]) -> None:
    done.log_metrics("train", {"train_loss": 0.5})
    done.save_metrics("train", {"train_loss": 0.5})
    done.save_metrics("eval", {"eval_loss": 0.6})
    done.save_state()
    done.accelerator.print("here", done.accelerator.num_processes)
    done.end()
    run = folder_of(done)
    assert json.loads((run / "all_results.json").read_text()) == {"train_loss": 0.5, "eval_loss": 0.6}
    assert json.loads((run / "train_results.json").read_text()) == {"train_loss": 0.5}
    assert json.loads((run / "trainer_state.json").read_text())["global_step"] == 2
    said = capsys.readouterr().out
    assert "train metrics" in said
    assert "here 1" in said


def test_what_is_not_there_says_what_is(done: DPOTrainer) -> None:
    with pytest.raises(AttributeError, match="penchant export"):
        done.push_to_hub()
    assert not hasattr(done, "get_train_dataloader")


def test_a_run_is_not_written_over(done: DPOTrainer) -> None:
    again = DPOTrainer(
        model=tiny_llama(layers=1), args=done.args, train_dataset=ROWS, processing_class=tiny_tokenizer()
    )
    with pytest.raises(UsageError, match="a run here already"):
        again.train()
    with pytest.raises(UsageError, match="no checkpoint to resume"):
        again.train(resume_from_checkpoint=True)


@pytest.mark.slow
def test_a_resumed_run_has_the_log_of_one_that_was_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 2,
        "logging_steps": 4,
    }
    whole = trainer_of(tmp_path / "whole", **changes)
    whole.train()

    def interrupt(_: Printer, figures: dict[str, Any]) -> None:
        if figures["step"] == 3:
            raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Printer, "on_step", interrupt)
        with pytest.raises(RuntimeError):
            trainer_of(tmp_path / "parts", **changes).train()
    resumed = trainer_of(tmp_path / "parts", **changes)
    with pytest.raises(UsageError, match="is the newest checkpoint"):
        resumed.train(resume_from_checkpoint="checkpoint-1")
    resumed.train(resume_from_checkpoint=True)
    untimed = [
        [{name: value for name, value in line.items() if not name.startswith("train_")} for line in one]
        for one in (whole.state.log_history, resumed.state.log_history)
    ]
    assert untimed[0] == untimed[1]
    assert "rewards/chosen" in untimed[0][-1]  # of the two steps after the last line


@pytest.mark.slow
def test_adapters_are_trained_and_saved_alone(tmp_path: Path) -> None:
    peft = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], use_rslora=True, task_type="CAUSAL_LM"
    )
    trainer = trainer_of(tmp_path, peft_config=peft)
    assert trainer.config.model.lora_rank == 4
    assert trainer.config.model.lora_targets == ("q_proj", "up_proj")
    assert trainer.config.model.lora_variant == "rslora"
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    ids = torch.arange(10)[None]
    assert torch.allclose(opened(input_ids=ids).logits, trainer.model(input_ids=ids).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data_collator": object()}, "packed by the engine"),
        ({"compute_metrics": print}, "penchant eval"),
        ({"optimizers": (object(), None)}, "`optim`"),
        ({"quantization_config": object()}, "load_in_4bit"),
        ({"callbacks": [TrainerCallback()]}, "EarlyStoppingCallback"),
        ({"tokenizer": object()}, "called processing_class"),
        ({"beta": 0.1}, "field of DPOConfig"),
        ({"train_datset": []}, 'Did you mean "train_dataset"'),
        ({"peft_config": LoraConfig(lora_dropout=0.1)}, "no dropout"),
        ({"peft_config": LoraConfig(lora_dropout=0.05)}, "no dropout"),  # the default of TRL's command
        ({"peft_config": LoraConfig(modules_to_save=["lm_head"])}, "modules_to_save"),
        ({"peft_config": PrefixTuningConfig()}, "PrefixTuningConfig is not built"),
        ({"train_dataset": {"train": ROWS}}, "of several splits|Of several splits"),
        ({"train_dataset": IterableDataset.from_generator(lambda: iter(ROWS))}, "streamed"),
        ({"ref_model": 5}, "ref_model is a int"),
        ({"args": 5}, "args is a int"),
        ({"args": DPOConfig("out", eval_strategy="epoch", use_cpu=True)}, "needs one eval_dataset"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_trained(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    start = save_tiny(tmp_path / "start", tiny_llama(layers=1))
    with pytest.raises(UsageError, match=words):
        DPOTrainer(**{"model": str(start), "args": options(tmp_path), "train_dataset": ROWS, **given})


def test_a_mixture_of_experts_needs_its_auxiliary_loss_switched_off(tmp_path: Path) -> None:
    start = save_tiny(tmp_path / "start", tiny_family("Mixtral", layers=1))
    with pytest.raises(UsageError, match="auxiliary loss"):
        trainer_of(tmp_path, start=str(start))
    trainer_of(tmp_path, start=str(start), router_aux_loss_coef=0.0)


def test_the_policy_given_twice_is_no_other_reference_and_callbacks_stop_early(tmp_path: Path) -> None:
    model = tiny_llama(layers=1)
    given: dict[str, Any] = {"processing_class": tiny_tokenizer(), "eval_dataset": ROWS}
    given |= {"eval_strategy": "epoch", "callbacks": [EarlyStoppingCallback(2)]}
    trainer = trainer_of(tmp_path, start=model, ref_model=tiny_llama(layers=1), **given)
    assert trainer.config.train.early_stop == 2
    assert trainer._start.reference is None
    with pytest.raises(UsageError, match="same object"):
        trainer_of(tmp_path, start=model, ref_model=model, **given)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "a", "rejected": [{"role": "assistant", "content": "b"}], "prompt": "c"}, "not all text"),
        ({"chosen": "a", "prompt": "c"}, 'column "rejected"'),
        ({**ROWS[0], "tools": "[]x"}, 'column "tools"'),
        ({**ROWS[0], "prompt": [{"role": "developer", "content": "x"}]}, "role 'developer'"),
        ({**ROWS[0], "prompt": [{"role": "user", "content": "x", "name": "y"}]}, '"name" of a message'),
    ],
)
def test_rows_that_trl_would_read_otherwise_are_refused(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        trainer_of(tmp_path, [ROWS[0], row])


def test_rows_that_are_left_out_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_of(tmp_path, Dataset.from_list([*ROWS, ROWS[0]]))
    assert trainer.state.max_steps == 2
    assert "1 rows that TRL would train on are left out (duplicate_pair 1)" in capsys.readouterr().err


def test_messages_need_a_template(tmp_path: Path) -> None:
    start = save_tiny(tmp_path / "start", tiny_llama(layers=1), template=False)
    with pytest.raises(ModelError):
        trainer_of(tmp_path, start=str(start))
    text = rows_of("text", 3)
    assert trainer_of(tmp_path, text, start=str(start)).config.data.format == "trl_text"


def test_text_without_a_prompt_is_parted_where_the_sides_differ(tmp_path: Path) -> None:
    rows = [{"chosen": "The sky is blue.", "rejected": "The sky is green."}]
    trainer = trainer_of(tmp_path, rows)
    found = next(iter(trainer._rows))
    assert [found[name][0]["content"] for name in ("prompt", "chosen", "rejected")] == [
        "The sky is",
        " blue.",
        " green.",
    ]
