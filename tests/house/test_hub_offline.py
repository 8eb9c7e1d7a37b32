"""`HF_HUB_OFFLINE`: read as huggingface_hub reads it, and with it set no path of ours opens a socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
from tests.tiny import loaded, save_tiny, tiny_llama

from penchant.data.formats import FORMATS
from penchant.data.hub import load_hub, resolve_revision
from penchant.data.truthfulqa import load_truthfulqa_hub
from penchant.errors import PenchantError
from penchant.evaluation.judges.reward_model import RewardModel
from penchant.models.adapter import adapter_base, merge_adapter
from penchant.models.load import load_model
from penchant.models.sizes import read_model_config
from penchant.offline import hub_is_offline, hub_remedy
from penchant.workflow.doctor.models import models
from penchant.workflow.export.push import asked_push
from penchant.workflow.inspect import load_chat
from penchant.workflow.lm_eval_tasks import run_tasks
from penchant.workflow.tracking.asked import trackers_of

ID = "nobody/nothing"
HUB_FORMAT = next(one for one in FORMATS.values() if one.hub)
VALUES = ("", "0", "1", "on", "ON", "Yes", "true", "TRUE", "no", "2")


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Not even one of this machine: what opens one is kept in the list, and fails."""
    opened: list[Any] = []

    def refuse(*address: Any, **_: Any) -> Any:
        opened.append(address)
        raise AssertionError(f"a socket was opened: {address}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "Yes")  # the libraries have read "1" when they were imported
    return opened


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("other", ["", "1"])
def test_the_setting_is_read_as_huggingface_hub_reads_it(value: str, other: str) -> None:
    theirs = huggingface_hub.constants._is_true(value or other)
    assert hub_is_offline({"HF_HUB_OFFLINE": value, "TRANSFORMERS_OFFLINE": other}) is theirs


def test_the_remedy_names_the_setting_only_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_remedy("Do this.", "Or that.") == "HF_HUB_OFFLINE is set, so nothing is fetched. Do this."
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    assert hub_remedy("Do this.", "Or that.") == "Or that."


def harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval, with a task whose data only the Hub has."""

    def simple_evaluate(**_: Any) -> None:
        from datasets import load_dataset

        load_dataset(ID)

    found = SimpleNamespace(simple_evaluate=simple_evaluate, HFLM=lambda **_: None, TaskManager=lambda **_: None)
    for name in ("lm_eval", "lm_eval.evaluator", "lm_eval.models", "lm_eval.models.huggingface", "lm_eval.tasks"):
        monkeypatch.setitem(__import__("sys").modules, name, found)


def an_adapter_of_the_hub() -> None:
    assert adapter_base(ID) is None  # whoever opens the model says what is wrong
    from transformers import LlamaForCausalLM

    model: LlamaForCausalLM = tiny_llama()
    merge_adapter(model, ID)


PATHS: dict[str, Callable[[], object]] = {
    "model": lambda: load_model(ID),
    "tokenizer": lambda: load_chat(ID),
    "sizes": lambda: read_model_config(ID),
    "adapter": an_adapter_of_the_hub,
    "reward model": lambda: RewardModel(ID),
    "revision": lambda: resolve_revision(HUB_FORMAT, "main"),
    "data set": lambda: list(load_hub(HUB_FORMAT)),
    "TruthfulQA": load_truthfulqa_hub,
    "push": lambda: asked_push("me/model", public=False, dry_run=False),
    "lm-eval": lambda: run_tasks(loaded(tiny_llama()), [ID], limit=1, batch_rows=1),
}


@pytest.mark.parametrize("name", PATHS)
def test_what_could_reach_the_hub_opens_no_socket_and_names_the_setting(
    name: str, no_sockets: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    harness(monkeypatch)
    with pytest.raises(PenchantError) as caught:
        PATHS[name]()
    assert no_sockets == []
    assert "HF_HUB_OFFLINE is set" in str(caught.value), str(caught.value)
    assert caught.value.fix


def test_trackio_sends_to_no_space(monkeypatch: pytest.MonkeyPatch, no_sockets: list[Any]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: SimpleNamespace(origin="here"))
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    with pytest.raises(PenchantError, match="HF_HUB_OFFLINE is set"):
        trackers_of(["trackio"])
    assert no_sockets == []


def test_what_is_here_is_read_and_doctor_tells_the_setting(tmp_path: Path, no_sockets: list[Any]) -> None:
    assert load_model(str(save_tiny(tmp_path / "model"))).path == str(tmp_path / "model")
    (found,) = [one.what for one in models() if one.name == "offline"]
    assert found.startswith("HF_HUB_OFFLINE")
    assert no_sockets == []
