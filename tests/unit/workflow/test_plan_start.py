"""A plan needs a model's configuration; what else is missing is said, and what is not here at all is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import pair_rows, save_tiny, tiny_config, tiny_llama, write_rows

from penchant.errors import ModelError
from penchant.models.sizes import model_sizes
from penchant.workflow import plan as plan_module
from penchant.workflow import plan_start
from penchant.workflow.plan import Plan, plan_run
from penchant.workflow.plan_start import read_start

# peft asks a model for an attribute that transformers has renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("whole"), tiny_llama(layers=2))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(6))


def without(whole: Path, folder: Path, *suffixes: str) -> Path:
    """A copy of the model without some of its files."""
    folder.mkdir()
    for file in whole.iterdir():
        if not any(file.name.startswith(one) for one in suffixes):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def plan(folder: Path | str, data: Path | None, **sections: dict[str, Any]) -> Plan:
    return plan_run(tiny_config(folder, **sections), data=data)


def test_a_model_without_weights_is_planned_and_the_plan_says_so(whole: Path, tmp_path: Path, data: Path) -> None:
    found, real = plan(without(whole, tmp_path / "bare", "model"), data), plan(whole, data)
    assert (found.sizes, found.pairs, found.steps) == (real.sizes, real.pairs, real.steps)
    assert found.parts["weights"] == real.parts["weights"]
    assert found.step is not None  # a few layers of random weights can be measured
    assert real.notes == ()
    assert any("no weights" in note for note in found.notes)


def test_without_its_tokenizer_lengths_are_assumed_and_the_plan_says_so(
    whole: Path, tmp_path: Path, data: Path
) -> None:
    found = plan(without(whole, tmp_path / "bare", "model", "tokenizer", "chat_template"), data)
    assert found.pairs == 6
    assert any(note.startswith("The tokenizer is not here: 6 pairs are assumed") for note in found.notes)


def test_a_model_with_weights_and_without_tokenizer_is_an_error_as_it_is_for_the_run(
    whole: Path, tmp_path: Path, data: Path
) -> None:
    with pytest.raises(ModelError, match="tokenizer"):
        plan(without(whole, tmp_path / "bare", "tokenizer", "chat_template"), data)


@pytest.mark.parametrize("name", ["nobody/nothing", "missing/folder/model"])
def test_a_model_that_is_not_here_at_all_is_an_error_with_a_way_out(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        plan(name, None)
    assert caught.value.fix
    assert caught.value.where == name


def test_weights_of_the_hub_that_were_never_fetched_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_llama(layers=1).config
    monkeypatch.setattr(plan_start, "read_model_config", lambda _: config)
    monkeypatch.setattr(plan_start, "resolve_model", lambda name: name)
    start = read_start(tiny_config("some/model").model, "some/model")
    assert "hf download some/model" in start.missing
    monkeypatch.setattr(plan_start, "try_to_load_from_cache", lambda name, file: f"/cache/{name}/{file}")
    assert read_start(tiny_config("some/model").model, "some/model").whole


def test_where_not_even_a_few_layers_fit_memory_alone_is_predicted(
    whole: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = plan(whole, data)
    monkeypatch.setattr(plan_module, "available_bytes", lambda _: 1000)
    out = tmp_path / "run"
    found = plan_run(tiny_config(whole), data=data, out=out)
    assert (found.step, found.total, found.times) == (None, None, {})
    assert list(found.estimates) == ["memory_bytes"]
    assert any(note.startswith("Time is not predicted") for note in found.notes)
    for name in ("weights", "gradients", "AdamW's moments", "scores"):
        assert found.parts[name] == measured.parts[name]
    assert found.parts["activations"] == pytest.approx(measured.parts["activations"], rel=0.5)
    assert found.memory.high / found.memory.value > measured.memory.high / measured.memory.value


def test_what_is_not_installed_is_said(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, _real=None: None)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    found = plan(
        whole,
        None,
        model={"lora_rank": 2, "load_in_4bit": True},
        train={"optimizer": "adamw_8bit", "max_steps": 1},
    )
    told = " ".join(found.notes)
    assert "model.load_in_4bit needs the package bitsandbytes" in told
    assert 'train.optimizer "adamw_8bit" needs the package bitsandbytes' in told
    assert found.parts["AdamW's moments (8 bits)"] > 0
    assert found.stages["saving"] > 4 * found.sizes.total


def test_the_next_start_is_what_this_one_leaves() -> None:
    """In fp32, and with the head that it was given."""
    source = tiny_llama(layers=2, tied=True).config
    source.dtype = torch.bfloat16
    start = plan_start.Start(source, "name")
    sizes = model_sizes(source, 1)
    after = start.after(sizes)
    assert sizes.untied
    assert sizes.stored_bytes == 2
    again = model_sizes(after.source, 1)
    assert (again.total, again.trained, again.untied, again.stored_bytes) == (sizes.total, sizes.trained, False, 4)
    assert source.tie_word_embeddings  # itself as it was
    assert source.dtype == torch.bfloat16
    assert start.after(model_sizes(source, None)).source.tie_word_embeddings
