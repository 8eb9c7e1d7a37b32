"""The library does what the command does, on models and rows in memory, and leaves these as they are."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import pair_rows, save_tiny, tiny_config, tiny_llama, tiny_tokenizer, write_rows
from transformers import PreTrainedModel

import penchant
from penchant.errors import DataError, ModelError, UsageError
from penchant.models.digest import weights_digest
from penchant.workflow.eval_models import eval_models
from penchant.workflow.score import score_file
from penchant.workflow.suites.chosen import Wanted
from penchant.workflow.train import train_run

ROOT = Path(__file__).parents[3]
ROWS = pair_rows(8)
ANY: Any = penchant  # for calls that its types refuse
SETTINGS: dict[str, Any] = {
    "data": {"max_tokens": 96},
    "train": {"learning_rate": 1e-3, "batch_pairs": 4, "epochs": 1.0},
    "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def in_a_thread(work: Callable[[], Any]) -> Any:
    """What work gives in another thread, as a notebook's may be."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture(scope="module")
def start() -> PreTrainedModel:
    return tiny_llama(layers=2)


HANDLER_BEFORE = signal.getsignal(signal.SIGINT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, start: PreTrainedModel) -> Path:
    """A start, a file of pairs, and the run that the command makes of them."""
    folder = tmp_path_factory.mktemp("library")
    save_tiny(folder / "model", start)
    file = write_rows(folder / "pairs.jsonl", ROWS)
    train_run(tiny_config(folder / "model", train=SETTINGS["train"]), file, folder / "run")
    return folder


@pytest.fixture(scope="module")
def result(folder: Path, start: PreTrainedModel) -> penchant.Trained:
    return in_a_thread(
        lambda: penchant.train(start, ROWS, folder / "mine", tokenizer=tiny_tokenizer(), config=SETTINGS)
    )


def test_a_model_and_rows_in_memory_give_the_weights_of_the_command(
    folder: Path, start: PreTrainedModel, result: penchant.Trained
) -> None:
    assert same(weights(folder / "run"), weights(result.run))
    assert (result.steps, result.pairs, len(result.metrics)) == (2, 8, 2)
    assert result.figures["train_pairs"] == 8
    trained = {name: tensor for name, tensor in result.model.state_dict().items() if name in weights(result.run)}
    assert same(trained, weights(result.run))
    assert result.tokenizer("sun").input_ids
    assert weights_digest(start) == weights_digest(tiny_llama(layers=2))
    assert signal.getsignal(signal.SIGINT) is HANDLER_BEFORE


def test_a_named_model_and_a_data_set_give_them_too(folder: Path, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(ROWS)
    found = penchant.train(folder / "model", rows, tmp_path / "run", config=SETTINGS)
    assert same(weights(folder / "run"), weights(found.run))
    assert not (tmp_path / "run" / "start").exists()


def test_held_out_rows_are_validated_on_and_a_run_goes_on_from_its_own_start_only(
    start: PreTrainedModel, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "train": {**SETTINGS["train"], "evaluate_every": 1, "checkpoint_every": 1}}
    given: dict[str, Any] = {"tokenizer": tiny_tokenizer(), "config": settings, "held_out": pair_rows(4, seed=1)}
    found = penchant.train(start, ROWS, tmp_path / "run", **given)
    assert found.figures["validation_pairs"] == 4
    with pytest.raises(UsageError, match="there is a run here already"):
        penchant.train(start, ROWS, tmp_path / "run", **given)
    with pytest.raises(DataError, match="began with other rows"):
        penchant.train(start, ROWS[:4], tmp_path / "run", resume=True, **given)
    with pytest.raises(ModelError, match="started from another model"):
        penchant.train(tiny_llama(layers=2, seed=3), ROWS, tmp_path / "run", resume=True, **given)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_scores_are_those_of_the_command_and_the_model_stays_as_it_is(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    mine: Any = tiny_llama(layers=2, attention_dropout=0.5).train()
    if kind == "bf16":
        mine = mine.to(torch.bfloat16)
    before, config = weights_digest(mine), mine.config.to_dict()
    scores = penchant.score(mine, ROWS, tokenizer=tiny_tokenizer(), config=SETTINGS)
    assert (weights_digest(mine), mine.config.to_dict(), mine.training) == (before, config, True)
    if kind == "fp32":
        score_file(tiny_config(folder / "model"), folder / "pairs.jsonl", tmp_path / "scores.jsonl")
        lines = (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
        named = penchant.score(str(folder / "model"), folder / "pairs.jsonl", config=SETTINGS)
        assert [name for name, *_ in scores] == [f"row-{index}" for index in range(8)] == named.ids
        assert torch.equal(scores.logps.chosen, named.logps.chosen)
        assert all(f'"chosen_logps": {chosen}' in line for (_, chosen, _), line in zip(scores, lines, strict=True))
    assert scores.ledger.counts() == {"kept": 8, "cut": 0, "dropped": 0}
    expected = torch.full((8,), 2.0).log()
    assert torch.allclose(penchant.losses.dpo(scores.logps, scores.logps, beta=0.1), expected)


def test_an_evaluation_is_that_of_the_command(
    folder: Path, start: PreTrainedModel, result: penchant.Trained
) -> None:
    found = penchant.evaluate(result, ROWS)
    assert found.run == result.run
    wanted = Wanted(data=folder / "pairs.jsonl")
    figures, _, _ = eval_models([str(folder / "run")], wanted, ["pairs"])
    accuracy = found.figures["reward_accuracy"]
    low, high = found.figures["reward_accuracy_interval"]
    assert accuracy == figures["reward_accuracy"]
    assert low <= accuracy <= high
    changes = {section: SETTINGS[section] for section in ("data", "engine")}
    both = penchant.evaluate(result.model, ROWS, reference=start, tokenizer=tiny_tokenizer(), config=changes)
    assert both.figures["reward_accuracy"] == accuracy
    assert both.run is None


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda model, out: ANY.train(model, ROWS, out), UsageError, "needs its tokenizer"),
        (lambda model, out: ANY.train("x", ROWS, out, tokenizer=1), UsageError, "has its own tokenizer"),
        (lambda model, out: ANY.score(3, ROWS), UsageError, "int, not a name or a transformers model"),
        (lambda model, out: ANY.score("x", {"train": ROWS}), UsageError, 'data["train"]'),
        (lambda model, out: ANY.score("x", [1]), DataError, "row 1: it is a number"),
        (lambda model, out: ANY.score("x", []), DataError, "there are no rows"),
        (lambda model, out: ANY.score("x", [{"prompt": {1}}]), DataError, "no JSON value"),
        (lambda model, out: ANY.evaluate("x", ROWS), UsageError, "not known what to compare"),
        (lambda model, out: ANY.evaluate("x", ROWS, config={"data": 1}), UsageError, "no mapping of options"),
        (lambda model, out: ANY.train("x", ROWS, out, held_out=ROWS), UsageError, "train.evaluate_every"),
        (
            lambda model, out: ANY.train("x", ROWS, out, config={"trian": {}}),
            UsageError,
            'Did you mean "train"',
        ),
    ],
)
def test_what_cannot_be_used_is_said(
    call: Callable[..., Any], kind: type[Exception], message: str, start: PreTrainedModel, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        call(start, tmp_path / "run")
    assert message in str(caught.value)


def test_the_stub_types_every_name_and_no_other() -> None:
    stub = (ROOT / "src" / "penchant" / "__init__.pyi").read_text(encoding="utf-8")
    assert re.findall(r'^    "(\w+)",', stub, flags=re.MULTILINE) == penchant.__all__
    places = re.findall(r"^from (\S+) import (\w+) as \2$", stub, flags=re.MULTILINE)
    assert {name for _, name in places} | {"__version__"} == set(penchant.__all__)
    for module, name in places:
        assert getattr(import_module(module), name) is getattr(penchant, name)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = ANY.trian


@pytest.mark.slow
def test_the_page_about_it_runs_as_it_stands(tmp_path: Path) -> None:
    save_tiny(tmp_path / "my-model", tiny_llama(layers=2))
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "runs/library 4" in run.stdout
    assert 'Did you mean "learning_rate"?' in run.stdout
    assert "tensor([0.6931, 0.6931, 0.6931, 0.6931])" in run.stdout
