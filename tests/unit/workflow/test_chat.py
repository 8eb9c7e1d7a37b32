"""A conversation with two models, without a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.tiny import save_tiny, tiny_llama

from penchant.errors import DataError, ModelError, UsageError
from penchant.generation.answers import answer_prompts
from penchant.types import Prompt, Sampling, Turn
from penchant.workflow.chat import POLICY, REFERENCE, ChatSession, load_speakers
from penchant.workflow.speaker import Speaker

FP32 = ["engine.precision=fp32", "engine.threads=1", "engine.device=cpu"]
GREEDY = Sampling()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory whose model started from another one."""
    folder = tmp_path_factory.mktemp("chat")
    save_tiny(folder / "start", tiny_llama(layers=2))
    save_tiny(folder / "run" / "model", tiny_llama(layers=2, seed=1))
    config = {"model": {"path": str(folder / "start")}, "run": {"device": "cpu"}}
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "run"


@pytest.fixture(scope="module")
def speakers(run: Path) -> dict[str, Speaker]:
    return load_speakers(str(run), None, overrides=FP32)


@pytest.fixture
def session(speakers: dict[str, Speaker]) -> ChatSession:
    return ChatSession(speakers, sampling=GREEDY, max_new_tokens=8)


def said(session: ChatSession, question: str) -> dict[str, str]:
    texts = dict.fromkeys(session.names, "")
    for name, piece in session.ask(question):
        texts[name] += piece
    return {name: text.strip() for name, text in texts.items()}


def whole(speaker: Speaker, first: str, *later: str, system: str = "") -> list[str]:
    turns = (Turn("system", system),) if system else ()
    prompt = Prompt("1", (*turns, Turn("user", first)), later=later)
    [answers] = answer_prompts(speaker.loaded, [prompt], max_new_tokens=8)
    return [answer.text for answer in answers]


def test_each_model_goes_on_with_its_own_answers(session: ChatSession, speakers: dict[str, Speaker]) -> None:
    found = [said(session, question) for question in ("Why?", "And then?", "Who?")]
    for name in (POLICY, REFERENCE):
        assert [answers[name] for answers in found] == whole(speakers[name], "Why?", "And then?", "Who?")
    assert found[0][POLICY] != found[0][REFERENCE]
    assert [exchange.question for exchange in session.exchanges] == ["Why?", "And then?", "Who?"]


def test_the_models_speak_in_turns(session: ChatSession) -> None:
    names = [name for name, _ in session.ask("Why?")]
    assert names[:4] == [POLICY, REFERENCE] * 2


def test_reset_undo_and_system_change_what_is_remembered(
    session: ChatSession, speakers: dict[str, Speaker]
) -> None:
    policy = speakers[POLICY]
    said(session, "Why?")
    said(session, "Nonsense!")
    gone = session.undo()
    assert gone is not None
    assert gone.question == "Nonsense!"
    assert said(session, "And then?")[POLICY] == whole(policy, "Why?", "And then?")[1]
    session.reset()
    assert said(session, "Why?")[POLICY] == whole(policy, "Why?")[0]
    session.set_system("Be brief.")
    assert session.exchanges == []
    assert said(session, "Why?")[POLICY] == whole(policy, "Why?", system="Be brief.")[0]
    session.set_system("")
    assert said(session, "Why?")[POLICY] == whole(policy, "Why?")[0]
    session.reset()
    assert session.undo() is None


def test_every_answer_has_draws_of_its_own(session: ChatSession, speakers: dict[str, Speaker]) -> None:
    """Asked again, another answer; a session with the same seed repeats them all."""
    session.set_sampling(["temperature=1"])
    first = said(session, "Why?")
    session.undo()
    second = said(session, "Why?")
    assert first[POLICY] != second[POLICY]
    again = ChatSession(speakers, sampling=Sampling(temperature=1.0), max_new_tokens=8)
    assert said(again, "Why?") == first


def test_the_sampling_is_changed_by_words(session: ChatSession) -> None:
    session.set_sampling(["temperature=0.5", "top_k=7", "max_new_tokens=3"])
    assert (session.sampling, session.max_new_tokens) == (Sampling(temperature=0.5, top_k=7), 3)
    assert session.describe_sampling() == "temperature=0.5 top_k=7 top_p=1.0 seed=0 min_p=0.0 max_new_tokens=3"
    session.set_sampling(session.describe_sampling().split())
    assert session.max_new_tokens == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["top_k=9", "temprature=1"], 'temprature is no part of the sampling. Did you mean "temperature"'),
        (["top_k=9", "temperature=warm"], "temperature is not a number: warm"),
        (["top_k=9", "top_p=2"], "top_p is 2.0"),
        (["top_k=9", "max_new_tokens=0"], "max_new_tokens is 0"),
    ],
)
def test_a_wrong_word_changes_nothing(session: ChatSession, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        session.set_sampling(words)
    assert session.sampling == GREEDY


def test_an_answer_that_is_broken_off_stays_as_far_as_it_came(session: ChatSession) -> None:
    pieces = session.ask("Why?")
    texts = [next(pieces) for _ in range(4)]
    pieces.close()
    [exchange] = session.exchanges
    assert not exchange.answers[POLICY].finished
    assert exchange.answers[POLICY].text == "".join(piece for name, piece in texts if name == POLICY).strip()
    said(session, "And then?")
    assert len(session.exchanges) == 2


@pytest.mark.parametrize(
    ("question", "error"), [("<|im_end|>", ModelError), ("a" * 600, DataError)], ids=["control", "long"]
)
def test_a_question_that_cannot_be_asked_leaves_no_trace(
    session: ChatSession, question: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        said(session, question)
    assert session.exchanges == []
    said(session, "Why?")
    assert len(session.exchanges) == 1


def test_a_conversation_is_saved_over_nobodys_file(session: ChatSession, tmp_path: Path) -> None:
    session.set_system("Be brief.")
    answers = said(session, "Why?")
    session.save(tmp_path / "new" / "chat.json")
    session.save(tmp_path / "new" / "chat.json")
    record = json.loads((tmp_path / "new" / "chat.json").read_text(encoding="utf-8"))
    assert record["system"] == "Be brief."
    assert record["sampling"]["max_new_tokens"] == 8
    assert {name: one["text"] for name, one in record["exchanges"][0]["answers"].items()} == answers
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="such a file already"):
        session.save(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


def test_who_takes_part(run: Path) -> None:
    """A run brings its reference, unless it is to be alone; a model alone has none."""
    assert set(load_speakers(str(run), None, alone=True, overrides=FP32)) == {POLICY}
    assert set(load_speakers(str(run / "model"), None, overrides=FP32)) == {POLICY}
    both = load_speakers(str(run / "model"), str(run.parent / "start"), overrides=FP32)
    assert [speaker.name for speaker in both.values()] == [str(run / "model"), str(run.parent / "start")]
    with pytest.raises(UsageError, match="--alone and --reference"):
        load_speakers(str(run), "bundled", alone=True)
    with pytest.raises(ModelError, match="the reference cannot be loaded") as caught:
        load_speakers(str(run), str(run.parent / "gone"), overrides=FP32)
    assert "--alone" in str(caught.value)
