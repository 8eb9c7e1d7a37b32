"""Runs as the playground asks them: the same answers as `penchant chat`, and figures that a slow twin confirms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.tiny import pair_rows, plain_token_logps, save_tiny, tiny_llama, write_rows

from penchant.batching.pair_batch import Group
from penchant.errors import ModelError
from penchant.types import Answer, Sampling
from penchant.web.playground_form import voices_of
from penchant.web.playground_likelihood import Side
from penchant.web.playground_talk import Asked, Choice, Said
from penchant.workflow.chat import ChatSession, Exchange, load_speakers
from penchant.workflow.playground.models import RunModels

FP32 = ["engine.precision=fp32", "engine.threads=1", "engine.device=cpu"]
DRAWN = Sampling(temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that started from one model, one of them a stage of a longer one."""
    folder = tmp_path_factory.mktemp("playground")
    save_tiny(folder / "start", tiny_llama(layers=2))
    for name, seed in (("one", 1), ("staged/2-dpo", 2)):
        run = folder / "runs" / name
        save_tiny(run / "model", tiny_llama(layers=2, seed=seed))
        config = {"model": {"path": str(folder / "start")}, "objective": {"beta": 0.3}, "run": {"device": "cpu"}}
        (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "runs" / "unfinished").mkdir()
    (folder / "runs" / "unfinished" / "config.yaml").write_text("{}", encoding="utf-8")
    return folder / "runs"


@pytest.fixture
def models(runs: Path) -> RunModels:
    return RunModels(runs, overrides=FP32)


def named(models: RunModels, name: str) -> Choice:
    return next(choice for choice in models.choices() if choice.name == name)


def asked(models: RunModels, name: str, question: str, *history: Said, beside: str | None = None) -> Asked:
    voices = voices_of(models.choices(), named(models, name), beside)
    return Asked(f"talk about {name}", voices, "", history, question, DRAWN, 12)


def answered(models: RunModels, what: Asked) -> dict[Side, Answer]:
    answering = models.ask(what, lambda _: None)
    told: dict[Side, str] = dict.fromkeys(what.voices, "")
    for side, piece in answering.pieces():
        told[side] += piece
    found = answering.answers()
    assert {side: text.strip() for side, text in told.items()} == {side: one.text for side, one in found.items()}
    return dict(found)


def test_runs_are_found_with_their_reference_and_beta(models: RunModels, runs: Path) -> None:
    found = {choice.name: choice for choice in models.choices()}
    assert set(found) == {"one", "staged/2-dpo"}
    assert found["one"].reference == str(runs.parent / "start")
    assert found["one"].beta == 0.3
    alone = RunModels(None, ["bundled", str(runs / "one")]).choices()
    assert [(one.name, one.reference is None) for one in alone] == [("bundled", True), (str(runs / "one"), False)]


def test_a_run_whose_configuration_is_damaged_is_listed_and_explained_when_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "torn" / "model").mkdir(parents=True)
    (tmp_path / "torn" / "config.yaml").write_text("model: {bata: 1", encoding="utf-8")
    models = RunModels(tmp_path)
    assert [(one.name, one.reference) for one in models.choices()] == [("torn", None)]
    with pytest.raises(Exception, match="YAML"):
        models.ask(asked(models, "torn", "Why?"), lambda _: None)


def test_answers_are_those_of_a_chat_whatever_was_asked_meanwhile(models: RunModels, runs: Path) -> None:
    speakers = load_speakers(str(runs / "one"), None, overrides=FP32)
    session = ChatSession(speakers, sampling=DRAWN, max_new_tokens=12)
    for question in ("Why?", "And then?"):
        for _ in session.ask(question):
            pass
    first = answered(models, asked(models, "one", "Why?"))
    answered(models, asked(models, "staged/2-dpo", "Who?"))
    second = answered(models, asked(models, "one", "And then?", Said("Why?", first)))
    for found, exchange in zip((first, second), session.exchanges, strict=True):
        assert (found["left"], found["right"]) == (exchange.answers["policy"], exchange.answers["reference"])
    assert first["left"] != first["right"]


def test_an_answer_that_is_stopped_stays_as_far_as_it_came(models: RunModels) -> None:
    answering = models.ask(asked(models, "one", "Why?"), lambda _: None)
    pieces = answering.pieces()
    while next(pieces)[0] != "right":
        pass
    pieces.close()
    assert 1 <= answering.answers()["left"].tokens < 12
    assert not answering.answers()["left"].finished
    unasked = models.ask(asked(models, "one", "Why?"), lambda _: None)
    unasked.pieces().close()
    assert unasked.answers() == {}


@pytest.mark.parametrize("turns", [1, 2])
def test_likelihoods_are_those_of_the_slow_twin(models: RunModels, runs: Path, turns: int) -> None:
    what = asked(models, "one", "Why?")
    if turns == 2:
        what = asked(models, "one", "And then?", Said("Why?", answered(models, what)))
    answering = models.ask(what, lambda _: None)
    for _ in answering.pieces():
        pass
    found, answers = answering.likelihoods(), answering.answers()
    speakers = load_speakers(str(runs / "one"), None, overrides=FP32)
    session = ChatSession({"left": speakers["policy"], "right": speakers["reference"]})
    session.exchanges = [Exchange(one.question, {**one.answers}) for one in what.history]
    for side in what.voices:
        chat = speakers["policy"].chat
        conversation = session.turns(side, what.question)
        group = Group(
            chat.prompt_ids(conversation),
            (chat.response_ids(conversation, answers[side].text, complete=answers[side].finished),),
        )
        names: dict[Side, str] = {"left": "policy", "right": "reference"}
        for judge, name in names.items():
            model: Any = speakers[name].loaded.model
            with torch.no_grad():
                expected = plain_token_logps(model, [group])
            one = found[side][judge]
            assert one.logps == pytest.approx(float(expected.double().sum()), rel=1e-5)
            assert (one.tokens, one.rounding) == (len(expected), 0.0)


def test_no_more_models_are_kept_than_said(runs: Path) -> None:
    models, notes = RunModels(runs, overrides=FP32, most=2), list[str]()

    def ask(name: str, beside: str | None = None) -> int:
        notes.clear()
        models.ask(asked(models, name, "Why?", beside=beside), notes.append)
        assert models._shelf is not None
        assert len(models._shelf._kept) <= 2
        return sum(note.startswith("Loading") for note in notes)

    assert [ask("one"), ask("one"), ask("staged/2-dpo"), ask("one"), ask("one", "nobody")] == [2, 0, 2, 2, 0]
    assert ask("one", "staged/2-dpo") == 1


def test_a_model_that_is_gone_is_explained_and_the_others_are_asked_on(runs: Path, tmp_path: Path) -> None:
    models = RunModels(runs, [str(tmp_path / "gone")], overrides=FP32)
    with pytest.raises(ModelError):
        models.ask(asked(models, str(tmp_path / "gone"), "Why?"), lambda _: None)
    assert answered(models, asked(models, "one", "Why?"))


def test_starting_questions_are_held_out_ones(models: RunModels, runs: Path, tmp_path: Path) -> None:
    choice = named(models, "one")
    packaged = models.questions(choice)
    assert (len(packaged.texts), packaged.source) == (3, "Questions of the test that comes with Penchant.")
    assert models.questions(choice) == packaged
    held = write_rows(tmp_path / "held.jsonl", pair_rows(5))
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").write_text(
        yaml.safe_dump({"train": {"evaluate_every": 1, "evaluate_data": str(held)}}), encoding="utf-8"
    )
    mine = Choice("run", str(run))
    assert set(models.questions(mine).texts) <= {row["prompt"] for row in pair_rows(5)}
    (run / "samples").mkdir()
    texts = ["One?", "Two?", "Three?", "x" * 400]
    lines = [json.dumps({"id": text, "question": text}) for text in texts]
    (run / "samples" / "test.jsonl").write_text("\n".join(lines) + '\n{"id": "to', encoding="utf-8")
    assert set(models.questions(mine).texts) == {"One?", "Two?", "Three?"}
    assert "this run's test" in models.questions(mine).source


def test_too_little_memory_is_explained(models: RunModels, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise MemoryError

    answering = models.ask(asked(models, "one", "Why?"), lambda _: None)
    for _ in answering.pieces():
        pass
    monkeypatch.setattr("penchant.workflow.playground.likelihoods.likelihood", too_large)
    with pytest.raises(ModelError, match="not enough memory"):
        answering.likelihoods()
    monkeypatch.setattr("penchant.workflow.playground.shelf.load_speaker", too_large)
    with pytest.raises(ModelError, match="not enough memory"):
        models.ask(asked(models, "staged/2-dpo", "Why?"), lambda _: None)
