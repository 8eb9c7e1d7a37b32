"""Explanations of real runs of tiny models: one that was ruined, one that went well."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import (
    Notes,
    no_prose,
    pair_rows,
    plain_token_logps,
    save_tiny,
    sentence,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.batching.pair_batch import Group
from penchant.errors import DataError, Stopped, UsageError
from penchant.models.bundled import cache_directory
from penchant.models.load import load_model
from penchant.workflow import evaluate as evaluation
from penchant.workflow import pair_tokens as scoring
from penchant.workflow.evaluate import evaluate, subject_of, write_evaluation
from penchant.workflow.explain import explain
from penchant.workflow.pair_tokens import scored_pair
from penchant.workflow.run_record import held_out_texts, read_run, training_texts
from penchant.workflow.setup import read_pairs, tokenize
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

RUINOUS = {"learning_rate": 1e-2, "batch_pairs": 16, "epochs": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt some sentences, and a run that ruined it; both kept in one folder."""
    folder = tmp_path_factory.mktemp("explain")
    coin = random.Random(1)
    rows = [
        {"id": f"row-{n}", "prompt": f"{n}", "chosen": sentence(coin, 3, 6), "rejected": sentence(coin, 3, 6)}
        for n in range(160)
    ]
    data = write_rows(folder / "noise.jsonl", rows)
    start = save_tiny(folder / "start", tiny_llama(layers=2))
    fluent = tiny_config(start, objective={"loss": "sft"}, train={**RUINOUS, "epochs": 3.0})
    train_run(fluent, data, folder / "sft")
    train_run(tiny_config(folder / "sft" / "model", train=RUINOUS), data, folder / "ruined")
    return folder


@pytest.fixture(autouse=True)
def same_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache in which the module's runs stored their reference."""
    store = json.loads((folder / "ruined" / "reference" / "store.json").read_text(encoding="utf-8"))
    monkeypatch.setenv("PENCHANT_CACHE", str(Path(store["folder"]).parents[1]))


def answer(found: dict[str, Any], question: str) -> dict[str, Any]:
    return next(one for one in found["answers"] if one["question"] == question)


def test_a_ruined_run_is_explained_with_its_pairs_and_tokens(folder: Path) -> None:
    found = explain(folder / "ruined")
    assert found["notes"] == []
    assert len(found["answers"]) == 6
    fallen = found["answers"][0]
    assert (fallen["question"], fallen["verdict"]) == ("chosen_falls", "yes")
    assert fallen["cases"][0]["chosen"]
    assert fallen["tokens"]["pairs"] == 16
    assert fallen["tokens"]["fall"] < 0
    json.dumps(found, allow_nan=False)


def test_token_scores_are_those_of_the_plain_models(folder: Path) -> None:
    """The twin is transformers' own forward of both models, response by response."""
    found = answer(explain(folder / "ruined", "chosen falls"), "chosen_falls")["tokens"]
    config = tiny_config(folder / "start")
    pairs, ledger = read_pairs(folder / "noise.jsonl", split=None)
    policy, reference = (load_model(str(folder / name / "model")) for name in ("ruined", "sft"))
    by_id = {pair.id: pair for pair in tokenize(pairs, ledger, policy.chat, config.data)}
    for shown in found["shown"][:3]:
        pair = by_id[shown["id"]]
        groups = [Group(pair.prompt_ids, (pair.chosen_ids,))]
        twin = plain_token_logps(policy.model, groups) - plain_token_logps(reference.model, groups)
        given = [piece["log_ratio"] for piece in shown["pieces"]]
        assert given == pytest.approx(twin.tolist()[: len(given)], abs=2e-3)


def test_the_stored_reference_gives_the_scores_of_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scored: list[str] = []
    own = scoring._score

    def counted(*arguments: Any) -> Any:
        scored.append(arguments[-1])
        return own(*arguments)

    monkeypatch.setattr(scoring, "_score", counted)
    stored = answer(explain(folder / "ruined", "chosen_falls"), "chosen_falls")["tokens"]
    assert scored == ["policy"]
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path))
    assert not (cache_directory() / "reference").exists()
    anew = answer(explain(folder / "ruined", "chosen_falls"), "chosen_falls")["tokens"]
    assert scored == ["policy", "policy", "reference"]
    assert anew["fall"] == pytest.approx(stored["fall"], rel=1e-5)


def test_a_single_pair_is_told_token_by_token_as_its_run_measured_it(folder: Path) -> None:
    record = read_run(folder / "ruined")
    name = record.pair_lines[-1]["id"][0]
    told = Notes()
    found = scored_pair(folder / "ruined", name, told)
    assert len(told.lines) >= 1
    pair, _ = training_texts(record)
    assert "".join(token.text for token in found.chosen) == f"{pair[name].chosen}<|im_end|>"
    assert "".join(token.text for token in found.rejected) == f"{pair[name].rejected}<|im_end|>"
    start, trained = (load_model(str(folder / part / "model"), device="cpu") for part in ("sft", "ruined"))
    rows, ledger = read_pairs(folder / "noise.jsonl", split=None)
    ids = next(one for one in tokenize(rows, ledger, trained.chat, record.config.data) if one.id == name)
    groups = [Group(ids.prompt_ids, (ids.rejected_ids,))]
    for loaded, values in (
        (trained, [token.policy for token in found.rejected]),
        (start, [token.reference for token in found.rejected]),
    ):
        assert values == pytest.approx(plain_token_logps(loaded.model, groups).tolist(), abs=2e-3)
    with pytest.raises(DataError, match="holds no pair nobody"):
        scored_pair(folder / "ruined", "nobody", told)


def test_tokens_are_not_scored_when_not_wanted_or_not_possible(folder: Path, tmp_path: Path) -> None:
    assert answer(explain(folder / "ruined", tokens=False), "chosen_falls")["tokens"] is None
    run = shutil.copytree(folder / "ruined", tmp_path / "run")
    shutil.rmtree(run / "model")
    found = explain(run)
    assert answer(found, "chosen_falls")["tokens"] is None
    assert any("no model/" in note for note in found["notes"])


def test_data_that_changed_is_noticed(folder: Path, tmp_path: Path) -> None:
    data = shutil.copy(folder / "noise.jsonl", tmp_path / "noise.jsonl")
    run = shutil.copytree(folder / "ruined", tmp_path / "run")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(text.replace(str(folder / "noise.jsonl"), str(data)), encoding="utf-8")
    assert answer(explain(run), "chosen_falls")["tokens"] is not None
    rows = [json.loads(line) for line in Path(data).read_text(encoding="utf-8").splitlines()]
    write_rows(Path(data), [{**row, "chosen": row["chosen"] + " now"} for row in rows])
    found = explain(run)
    assert answer(found, "chosen_falls")["tokens"] is None
    assert any("fingerprint differs" in note for note in found["notes"])
    write_rows(Path(data), rows[:100])
    found = explain(run)
    assert any("60 that were trained on are not there" in note for note in found["notes"])
    Path(data).unlink()
    found = explain(run)
    assert any("cannot be read any more" in note for note in found["notes"])
    assert answer(found, "chosen_falls")["cases"][0]["chosen"]  # as the run kept it


@pytest.mark.slow  # a run and an evaluation more; healthy runs made up by hand are in the default suite
def test_a_run_that_went_well_is_told_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "prose_suite", no_prose)
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(160))
    held_out = write_rows(tmp_path / "held.jsonl", pair_rows(100, seed=5))
    well = {"learning_rate": 1e-3, "batch_pairs": 16, "epochs": 2.0}
    config = tiny_config(folder / "start", train=well, objective={"nll_weight": 1.0})
    run = train_run(config, data, tmp_path / "run").run
    verdicts = {one["question"]: one["verdict"] for one in explain(run)["answers"]}
    assert verdicts["chosen_falls"] == "no"
    assert verdicts["data"] == "no"
    assert verdicts["overfit"] == "cannot tell"  # nothing was held out
    write_evaluation(run, *evaluate(subject_of(str(run), None), data=held_out))
    found = explain(run)
    verdicts = {one["question"]: one["verdict"] for one in found["answers"]}
    assert (verdicts["overfit"], verdicts["accuracy_stuck"]) == ("no", "no"), found["answers"]


def test_a_question_of_its_own_is_answered_alone(folder: Path) -> None:
    found = explain(folder / "ruined", "did it overfit", tokens=False)
    assert [one["asked"] for one in found["answers"]] == ["did it overfit"]
    with pytest.raises(UsageError, match="not one of the questions"):
        explain(folder / "ruined", "what is the weather")


def test_a_folder_that_is_no_run_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.yaml"):
        explain(tmp_path)


def test_an_unfinished_run_is_explained_so_far(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder / "ruined", tmp_path / "run")
    (run / "eval" / "training.json").unlink()
    found = explain(run, tokens=False)
    assert not found["finished"]
    assert any("not finished" in note for note in found["notes"])
    assert answer(found, "chosen_falls")["verdict"] == "yes"


def test_held_out_pairs_are_read_from_the_split_beside_the_training_pairs(folder: Path, tmp_path: Path) -> None:
    record = read_run(folder / "ruined")
    assert held_out_texts(record) == {}  # one file, no folder
    write_rows(tmp_path / "test.jsonl", pair_rows(3))
    beside = replace(record, circumstances={"data": str(tmp_path)})
    assert sorted(held_out_texts(beside)) == ["row-0", "row-1", "row-2"]
    (tmp_path / "test.jsonl").write_text("torn", encoding="utf-8")
    assert held_out_texts(beside) == {}


def test_a_stop_ends_it(folder: Path) -> None:
    stopper = Stopper()
    stopper.requested = True
    with pytest.raises(Stopped):
        explain(folder / "ruined", stopper=stopper, reporter=Notes())


def test_random_labels_hide_the_texts(folder: Path) -> None:
    record = read_run(folder / "ruined")
    random_labels = record.config.data.model_copy(update={"random_labels": True})
    config = record.config.model_copy(update={"data": random_labels})
    pairs, why = training_texts(type(record)(record.run, config, record.circumstances))
    assert pairs == {}
    assert "random" in why


def test_a_store_named_like_a_path_is_not_followed(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder / "ruined", tmp_path / "run")
    (run / "reference" / "store.json").write_text('{"store": "../../elsewhere"}', encoding="utf-8")
    assert answer(explain(run, "chosen_falls"), "chosen_falls")["tokens"]["pairs"] == 16
