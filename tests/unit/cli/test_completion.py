"""What the shell offers after Tab, asked for as the shells ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penchant.cli import completers
from penchant.cli.bash_words import complete_as_bash_does, joined
from penchant.cli.main import app, main
from penchant.config import OBJECTIVE_OPTIONS
from penchant.data.formats import FORMATS
from penchant.evaluation.judges.parse import FORMS
from penchant.recipes import recipe_names
from penchant.workflow.suites import chosen


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for run in ("runs/first", "runs/aligned/2-dpo"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.yaml").touch()
    for name in ("pairs.jsonl", "pairs.md", "mine.yaml"):
        (tmp_path / name).touch()
    return tmp_path


def in_bash(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What bash is told when Tab is pressed in the last of these words, which it has broken up itself."""
    environment = {
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_PENCHANT_COMPLETE": "complete_bash",
    }
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        patched.setattr(sys, "argv", ["penchant"])
        with pytest.raises(SystemExit):
            main()
    return capsys.readouterr().out.split()


def test_bash_completes_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_bash(capsys, "penchant", "verif") == ["verify-resume"]
    assert in_bash(capsys, "penchant", "train", "--allow") == ["--allow-change"]
    assert set(recipe_names()) <= set(in_bash(capsys, "penchant", "train", ""))
    assert in_bash(capsys, "penchant", "train", "m") == ["mine.yaml"]
    assert in_bash(capsys, "penchant", "train", "demo", "--data", "p") == ["pairs.jsonl"]
    assert in_bash(capsys, "penchant", "explain", "runs/f")[0] == "runs/first"
    assert in_bash(capsys, "penchant", "judge", "lo") == ["longer"]
    assert in_bash(capsys, "penchant", "eval", "runs/first", "--suite", "tr") == ["truthfulqa"]


def test_bash_completes_settings_and_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A key comes with its values, so that bash writes no space behind the sign; behind it values alone."""
    train = ("penchant", "train", "demo", "--set")
    assert in_bash(capsys, *train, "engine.att") == [
        f"engine.attention={x}" for x in ("", "auto", "sdpa", "varlen", "flex")
    ]
    assert in_bash(capsys, *train, "engine.attention", "=") == ["auto", "sdpa", "varlen", "flex"]
    assert in_bash(capsys, *train, "objective.loss", "=", "ip") == ["ipo"]
    assert in_bash(capsys, *train, "train.kee")[0] == "train.keep_best="
    assert in_bash(capsys, "penchant", "sweep", "demo", "--grid", "objective.bet") == [
        "objective.beta=",
        "objective.beta=0.1",
    ]
    assert in_bash(capsys, "penchant", "online", "demo", "--prompts", "house-style", ":", "te") == ["test"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_whole_words(shell: str) -> None:
    environment = {
        "_PENCHANT_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "penchant train demo --set objective.loss=ip",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    told = CliRunner().invoke(app, [], prog_name="penchant", env=environment)
    assert "objective.loss=ipo" in told.stdout


@pytest.mark.parametrize(
    ("words", "place", "whole", "where"),
    [
        (["p", "--set", "a.b", "=", "c"], 4, ["p", "--set", "a.b=c"], 2),
        (["p", "--set", "a.b", "="], 3, ["p", "--set", "a.b="], 2),
        (["p", "--set", "=", "a.b", "=", "c", "d"], 6, ["p", "--set=a.b=c", "d"], 2),
        (["p", "reward", ":", "x", ""], 4, ["p", "reward:x", ""], 2),
        (["p", "a", "=", ""], 3, ["p", "a=", ""], 2),
        (["p", "tr"], 1, ["p", "tr"], 1),
    ],
)
def test_words_that_bash_broke_are_joined(words: list[str], place: int, whole: list[str], where: int) -> None:
    assert joined(words, place) == (whole, where)


def test_nothing_is_changed_where_no_shell_asks() -> None:
    called: list[Any] = []
    environment = {"COMP_WORDS": "a\n=\nb"}
    complete_as_bash_does(lambda: called.append(1), environment)
    assert called == [1]
    assert environment == {"COMP_WORDS": "a\n=\nb"}


def test_every_setting_has_a_key_and_every_list_is_that_of_the_code() -> None:
    keys = {word.partition("=")[0] for word in completers.setting("")}
    assert {"objective.beta", "train.learning_rate", "engine.precision", "eval.max_new_tokens"} <= keys
    assert [word.partition("=")[2] for word in completers.setting("objective.loss=")] == list(OBJECTIVE_OPTIONS)
    assert {name.rstrip(":") for name in completers.JUDGES} == set(FORMS)
    assert all(name.endswith(":") == (":" in FORMS[name.rstrip(":")]) for name in completers.JUDGES)
    assert set(completers.DATA_SETS) == {*FORMATS, "mix"}
    assert set(completers.SUITES) == {chosen.ALL, *(name for name, *_ in chosen._SUITES)}


def test_a_folder_that_cannot_be_read_offers_nothing() -> None:
    assert completers.data("/no/such/folder/x") == []


def test_completion_loads_nothing_heavy() -> None:
    environment = {
        **os.environ,
        "COMP_WORDS": "penchant\ntrain\ndemo\n--set\nobjective.be",
        "COMP_CWORD": "4",
        "_PENCHANT_COMPLETE": "complete_bash",
    }
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "penchant"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.stdout.split() == ["objective.beta=", "objective.beta=0.1"]
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in lines}
    assert loaded & {"torch", "transformers", "matplotlib", "pyarrow", "numpy"} == set()
