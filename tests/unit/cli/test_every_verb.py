"""What holds of every command, whichever there are: the application is walked, no list of verbs is kept."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import typer
from typer.models import CommandInfo
from typer.testing import CliRunner

import penchant
from penchant.cli.app import run_verb
from penchant.cli.main import app
from penchant.errors import DataError


def commands(of: typer.Typer = app, before: tuple[str, ...] = ()) -> dict[str, CommandInfo]:
    """Every command by its words, those of groups included."""
    found = {}
    for command in of.registered_commands:
        name = command.name or (command.callback.__name__.replace("_", "-") if command.callback else "")
        found[" ".join((*before, name))] = command
    for group in of.registered_groups:
        assert group.typer_instance is not None
        found |= commands(group.typer_instance, (*before, str(group.name or group.typer_instance.info.name)))
    return found


COMMANDS = commands()


def test_the_walk_finds_the_commands() -> None:
    assert {"train", "make-pairs", "verify-resume", "compare-rl", "doctor"} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_can_be_quiet_speak_json_and_show_its_defects(words: str) -> None:
    callback = COMMANDS[words].callback
    assert callback is not None
    options = inspect.signature(callback).parameters
    missing = [name for name in ("quiet", "as_json", "debug") if name not in options]
    assert not missing, f"penchant {words} lacks {missing}: take Quiet, Json and Debug of penchant.cli.app"
    assert callback.__doc__, f"penchant {words} says nothing about itself"


@pytest.mark.parametrize("words", ["train", "make-pairs", "doctor"])
def test_a_misspelt_option_is_answered_by_the_nearest(words: str) -> None:
    done = CliRunner().invoke(app, [*words.split(), "--quite"])
    assert done.exit_code == 2
    assert "--quiet" in done.stderr


def test_the_version_is_said() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"penchant {penchant.__version__}\n")


def test_a_misspelt_command_is_answered_by_the_nearest() -> None:
    for typed, meant in (("trian", "train"), ("doktor", "doctor"), ("verify_resume", "verify-resume")):
        done = CliRunner().invoke(app, [typed])
        assert done.exit_code == 2
        assert f"'{meant}'" in done.stderr


def test_an_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise DataError("no pairs", where="a.jsonl", fix="Add some.")

    with pytest.raises(SystemExit) as ended:
        run_verb(work, False, True)
    out, err = capsys.readouterr()
    assert ended.value.code == 3
    assert json.loads(out) == {
        "error": {"exit_code": 3, "what": "no pairs", "where": "a.jsonl", "fix": "Add some."}
    }
    assert err == "penchant: a.jsonl: no pairs\n  Add some.\n"


def test_a_defect_is_json_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work() -> None:
        raise RuntimeError("oh")

    with pytest.raises(SystemExit):
        run_verb(work, False, True)
    assert json.loads(capsys.readouterr().out)["error"]["what"] == "RuntimeError: oh"


PAIR = {"prompt": "Why?", "chosen": "Because it is so.", "rejected": "No."}
TRL = "model_name_or_path: a/b\ndataset_name: Anthropic/hh-rlhf\noutput_dir: out\n"
CHEAP = {  # what does not load torch
    "recipes": ([], "penchant recipes NAME"),
    "losses": ([], "penchant train RECIPE"),
    "inspect": (["pairs.jsonl"], "penchant inspect pairs.jsonl --html"),
    "prepare": (
        ["local", "--source", "pairs.jsonl", "--out", "data", "--test-fraction", "0"],
        "penchant inspect data",
    ),
    "migrate": (["trl.yaml", "--out", "mine.yaml"], "penchant plan mine.yaml"),
}


@pytest.mark.parametrize("verb", CHEAP)
def test_a_command_ends_with_what_comes_next(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n", encoding="utf-8")
    (tmp_path / "trl.yaml").write_text(TRL, encoding="utf-8")
    options, after = CHEAP[verb]
    told = CliRunner().invoke(app, [verb, *options])
    assert told.exit_code == 0, told.output
    last = told.stdout.rpartition("\n\n")[2]
    [first, *_] = [line for line in last.splitlines() if line.startswith("Next     ")]
    assert "penchant" in first
    assert after in last
    for line in last.splitlines():
        head, _, rest = line.partition("  ")
        if head and head not in ("Next", ""):
            assert Path(rest.split()[0]).exists(), line


@pytest.mark.parametrize("verb", CHEAP)
def test_quiet_leaves_the_hints_out_and_json_is_one_object(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n", encoding="utf-8")
    (tmp_path / "trl.yaml").write_text(TRL, encoding="utf-8")
    options, _ = CHEAP[verb]
    told = CliRunner().invoke(app, [verb, *options, "--quiet"])
    assert told.exit_code == 0, told.output
    assert "Next " not in told.stdout
    assert told.stderr == ""
    again = [word.replace("data", "data2").replace("mine.yaml", "mine2.yaml") for word in options]
    told = CliRunner().invoke(app, [verb, *again, "--json", "--quiet"])
    assert told.exit_code == 0, told.output
    json.loads(told.stdout)
    assert told.stderr == ""
