"""A reference that is another model: its own log-probabilities, both digests on record, no known first loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.tiny import (
    Notes,
    pair_rows,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    tiny_tokenizer,
    write_rows,
)
from torch.nn.functional import softplus

from penchant.config import Config
from penchant.errors import ModelError, UsageError
from penchant.models.digest import weights_digest
from penchant.models.load import load_model
from penchant.objective.score import score_pairs
from penchant.strict_yaml import read_yaml
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import read_pairs, scoring_model, tokenize
from penchant.workflow.train import train_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(8))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The policy's start, and another model."""
    return save_tiny(tmp_path / "start"), save_tiny(tmp_path / "other", tiny_llama(seed=9))


def margins(folder: Path, data: Path, config: Config) -> torch.Tensor:
    """Chosen minus rejected log-probability of every pair under the model of a folder."""
    loaded = load_model(str(folder))
    pairs, ledger = read_pairs(data, split="train")
    tokenized = tokenize(pairs, ledger, loaded.chat, config.data)
    model = scoring_model(loaded, config.engine, max_tokens=96, trunk_layers=0, reporter=Reporter())
    logps = score_pairs(model, tokenized, micro_batch_tokens=4096)
    return logps.chosen - logps.rejected


@pytest.mark.parametrize("last_layers", [None, 1])
def test_the_first_loss_is_that_of_the_two_models(
    tmp_path: Path, data: Path, folders: tuple[Path, Path], last_layers: int | None
) -> None:
    """By the formula from each model's own scores; frozen layers of the policy are still run once."""
    model = {"reference": str(folders[1]), "last_layers": last_layers}
    config = tiny_config(folders[0], model=model, train={"batch_pairs": 8, "max_steps": 2})
    run = train_run(config, data, tmp_path / "run").run
    policy, reference = (margins(folder, data, config) for folder in folders)
    expected = float(softplus(-config.objective.beta * (policy - reference)).mean())
    assert abs(expected - 0.6931472) > 0.01
    assert step_metrics(run)[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_both_digests_are_shown_and_kept(tmp_path: Path, data: Path, folders: tuple[Path, Path]) -> None:
    notes = Notes()
    config = tiny_config(folders[0], model={"reference": str(folders[1])}, train={"max_steps": 1})
    run = train_run(config, data, tmp_path / "run", reporter=notes).run
    policy, reference = (weights_digest(load_model(str(folder)).model) for folder in folders)
    told = [line for line in notes.lines if policy[:16] in line]
    assert len(told) == 1
    assert reference[:16] in told[0]
    assert "it is not checked" in told[0]
    assert "the same weights" not in told[0]
    assert read_yaml(run / "config.yaml")["run"]["weights"] == {"policy": policy, "reference": reference}
    assert json.loads((run / "reference" / "store.json").read_text("utf-8"))["weights"] == reference


def test_by_default_both_are_the_same_weights(tmp_path: Path, data: Path, folders: tuple[Path, Path]) -> None:
    """By construction; naming the start itself as the reference gives the same run."""
    plain = tiny_config(folders[0], train={"max_steps": 2})
    run = train_run(plain, data, tmp_path / "plain").run
    weights = read_yaml(run / "config.yaml")["run"]["weights"]
    assert weights["policy"] == weights["reference"] == weights_digest(load_model(str(folders[0])).model)
    notes = Notes()
    named = tiny_config(folders[0], model={"reference": str(folders[0])}, train={"max_steps": 2})
    other = train_run(named, data, tmp_path / "named", reporter=notes).run
    assert step_metrics(other) == step_metrics(run)
    assert any("(the same weights)" in line for line in notes.lines)


def test_a_loss_without_reference_refuses_one(tmp_path: Path, data: Path, folders: tuple[Path, Path]) -> None:
    """Before anything is read, and with the losses that have one."""
    config = tiny_config(folders[0], model={"reference": str(folders[1])}, objective={"loss": "sft"})
    with pytest.raises(UsageError, match=r'model\.reference: objective\.loss "sft" has no reference.*: dpo'):
        train_run(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_vocabulary_is_refused(tmp_path: Path, data: Path, folders: tuple[Path, Path]) -> None:
    tokenizer = tiny_tokenizer()
    text = tokenizer.backend_tokenizer.to_str()
    tokens = json.loads(text)
    vocabulary = tokens["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folders[1] / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    config = tiny_config(folders[0], model={"reference": str(folders[1])})
    with pytest.raises(ModelError, match=r"the token 'a' is .* for the policy and .* for this one"):
        train_run(config, data, tmp_path / "run")


def test_a_resume_refuses_another_reference(tmp_path: Path, data: Path, folders: tuple[Path, Path]) -> None:
    """Of the same name, with other weights."""
    config = tiny_config(
        folders[0], model={"reference": str(folders[1])}, train={"max_steps": 2, "checkpoint_every": 1}
    )
    train_run(config, data, tmp_path / "run")
    save_tiny(folders[1], tiny_llama(seed=10))
    with pytest.raises(ModelError, match="another reference"):
        train_run(config, data, tmp_path / "run", resume=True)
