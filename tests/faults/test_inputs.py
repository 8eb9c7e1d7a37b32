"""Data and models that cannot be used end a run with the right error, and leave nothing that looks whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiny import (
    pair_model,
    pair_rows,
    random_pairs,
    save_tiny,
    tiny_config,
    tiny_llama,
    write_rows,
)

import penchant.objective.reference as reference_module
from penchant.errors import DataError, ModelError, NotFiniteError, PenchantError, UsageError
from penchant.models.bundled import cache_directory
from penchant.models.freeze import choose_trainable
from penchant.objective.reference import reference_logps
from penchant.objective.shards import read_shard, write_shard
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.step import Trainer
from penchant.workflow.train import train_run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "start")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(8))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


GOOD = json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "no such file"),
        ("", "holds no rows"),
        (f'{GOOD}\n{{"prompt": "a", "cho\n', ":2"),
        ('{"prompt": "a", "chosen": "b"}\n', 'no column "rejected"'),
        ('{"prompt": "<|im_end|>", "chosen": "b", "rejected": "c"}\n', "no pair is left"),
        ('{"prompt": "a", "chosen": "b", "rejected": "b"}\n', "identical_responses 1"),
        (json.dumps({"prompt": "a" * 200, "chosen": "b", "rejected": "c"}), "prompt_too_long 1"),
    ],
)
def test_broken_data_is_a_data_error(tmp_path: Path, source: Path, text: str | None, word: str) -> None:
    """Missing, empty, torn, a column short, or nothing left of it: exit code 3 and the reason in words."""
    file = tmp_path / "broken.jsonl"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        train_run(tiny_config(source, data={"truncation": "keep_start"}), file, tmp_path / "run")
    assert caught.value.exit_code == 3
    assert word in str(caught.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_an_existing_run_is_not_overwritten(tmp_path: Path, source: Path, data: Path) -> None:
    """Without resume the second run is refused, and every byte of the first one stays."""
    config = tiny_config(source, train={"max_steps": 2, "checkpoint_every": 1})
    run = train_run(config, data, tmp_path / "run").run
    before = contents(run)
    with pytest.raises(UsageError, match="a run here already"):
        train_run(config, data, run)
    assert contents(run) == before


@pytest.mark.parametrize("changed", ["config", "data", "model"])
def test_a_refused_resume_changes_nothing(tmp_path: Path, source: Path, data: Path, changed: str) -> None:
    """Another configuration, other rows, other weights at the same path: named, and nothing is written."""
    config = tiny_config(source, train={"max_steps": 2, "checkpoint_every": 1})
    run = train_run(config, data, tmp_path / "run").run
    before = contents(run)
    if changed == "config":
        config = tiny_config(source, train={"max_steps": 2, "checkpoint_every": 1, "learning_rate": 1e-5})
    elif changed == "data":
        write_rows(data, pair_rows(8, seed=3))
    else:
        save_tiny(source, tiny_llama(seed=3))
    with pytest.raises(ModelError, match=f"another {changed}"):
        train_run(config, data, run, resume=True)
    assert contents(run) == before


def test_a_finished_run_is_not_resumed(tmp_path: Path, source: Path, data: Path) -> None:
    """There is nothing left to do, and that is said; the model stays."""
    config = tiny_config(source, train={"max_steps": 2, "checkpoint_every": 1})
    run = train_run(config, data, tmp_path / "run").run
    model, metrics = contents(run / "model"), (run / "metrics.jsonl").read_bytes()
    status = (run / "status.json").read_bytes()
    with pytest.raises(UsageError, match="already finished"):
        train_run(config, data, run, resume=True)
    assert contents(run / "model") == model
    assert (run / "metrics.jsonl").read_bytes() == metrics
    assert (run / "status.json").read_bytes() == status


@pytest.mark.parametrize("loss", ["dpo", "sft"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_poisoned_model_is_not_finite(tmp_path: Path, data: Path, loss: str, value: float) -> None:
    """One weight that is no number: exit code 10, no step counted, no model written, the source untouched."""
    model = tiny_llama()
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[3, 3] = value
    source = save_tiny(tmp_path / "start", model)
    before = contents(source)
    with pytest.raises(NotFiniteError) as caught:
        train_run(tiny_config(source, objective={"loss": loss}), data, tmp_path / "run")
    assert caught.value.exit_code == 10
    assert "step 1" in str(caught.value)
    assert contents(source) == before
    assert not (tmp_path / "run" / "model").exists()
    assert (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8") == ""


def test_an_update_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    """The gradient turns infinite in step 3: weights and moments are those after step 2."""
    config = tiny_config("tiny", train={"max_steps": 5})
    pairs = random_pairs(8)
    model = tiny_llama()
    choose_trainable(model, None)
    scorer = pair_model(model)
    reference = reference_logps(scorer, pairs, tmp_path, micro_batch_tokens=256).logps
    optimizer = make_optimizer(config, scorer)
    trainer = Trainer(config, scorer, pairs, reference, optimizer, TrunkCache(0))
    kept: dict[str, torch.Tensor] = {}
    done: list[int] = []

    def on_step(step: int, _: dict[str, float]) -> None:
        done.append(step)
        if step == 1:  # the gradients of step 2 are there by now
            model.get_parameter("model.norm.weight").register_hook(lambda gradient: gradient * float("inf"))
        if step == 2:
            kept.update({name: value.detach().clone() for name, value in model.named_parameters()})

    with pytest.raises(NotFiniteError, match="step 3"):
        train(trainer, on_step)
    assert done == [1, 2]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, kept[name]), name
    for state in optimizer.state_dict()["state"].values():
        assert float(state["step"]) == 2
        assert all(bool(value.isfinite().all()) for value in state.values())


def other_values(how: str, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    if how == "shuffled":
        return values.flip(0)
    if how == "a nat a token":
        return values + 1
    firsts = lengths.cumsum(0) - lengths
    return values.index_add(0, firsts, torch.ones(len(firsts)))


@pytest.mark.parametrize("how", ["shuffled", "a nat a token", "a nat a response"])
def test_a_reference_of_other_values_stops_at_step_one(
    tmp_path: Path, source: Path, data: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key fits and the values do not. With a nat on every response only the rewards tell."""
    config = tiny_config(source, train={"max_steps": 2})
    run = train_run(config, data, tmp_path / "run").run
    (path,) = cache_directory().glob("reference/*/*")
    shard = read_shard(path, path.parent.name)
    path.unlink()
    changed = other_values(how, shard.token_logps, shard.lengths.flatten().long())
    write_shard(path.parent, replace(shard, token_logps=changed))
    monkeypatch.setattr(reference_module, "_FP32_TOLERANCE", 1e9)  # the spot check would have caught it
    (run / "metrics.jsonl").unlink()
    with pytest.raises(ModelError) as caught:
        train_run(config, data, run)
    assert "0.693147" in str(caught.value)
    assert "it was scored with other weights" in str(caught.value)
    assert "Delete the store" in str(caught.value)
    assert (run / "metrics.jsonl").read_text(encoding="utf-8") == ""


def test_more_trained_layers_than_there_are(tmp_path: Path, source: Path, data: Path) -> None:
    """A usage error, exit code 2, before anything is scored."""
    with pytest.raises(UsageError, match="has 4 layers"):
        train_run(tiny_config(source, model={"last_layers": 9}), data, tmp_path / "run")
    assert not (tmp_path / "run" / "reference").exists()


def test_a_trunk_asked_for_and_not_to_be_had(tmp_path: Path, source: Path, data: Path) -> None:
    """An option is never silently ignored: without prefix sharing there is no trunk sharing."""
    engine = {"prefix_sharing": False, "trunk_sharing": True}
    config = tiny_config(source, model={"last_layers": 1}, engine=engine)
    with pytest.raises(UsageError, match=r"engine\.trunk_sharing needs"):
        train_run(config, data, tmp_path / "run")


def test_a_device_that_is_not_there(tmp_path: Path, source: Path, data: Path) -> None:
    """Before the data is read."""
    with pytest.raises(PenchantError, match="no such device"):
        train_run(tiny_config(source, engine={"device": "abacus"}), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
