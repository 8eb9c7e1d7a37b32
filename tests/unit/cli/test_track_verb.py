"""What `penchant track` and `--track` say, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.written_runs import write_run
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.workflow.tracking.process import Outcome


def test_a_missing_package_ends_the_command_before_the_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    words = ["train", "demo", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--track", "wandb"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "--track: wandb is not installed" in done.stderr
    assert 'pip install "penchant[track]"' in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_was_sent_and_what_was_not_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sending:
        def __init__(self, run: Path, tracker: str) -> None:
            self.told: tuple[Any, ...] = (run, tracker)

        def finish(self, _: float) -> Outcome:
            if self.told[1] == "wandb":
                return Outcome(*self.told, unsent=4, failed="OSError: \x1b[31mno quota")
            return Outcome(*self.told, records=41, name="mine", look="See: trackio show --project penchant")

    monkeypatch.setattr("importlib.util.find_spec", lambda _: SimpleNamespace(origin="here"))
    monkeypatch.setattr("penchant.workflow.tracking.afterwards.TrackerProcess", Sending)
    run = write_run(tmp_path / "mine")
    done = CliRunner().invoke(app, ["track", str(run), "--to", "trackio"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == 'trackio: 41 records sent as "mine". See: trackio show --project penchant'
    both = CliRunner().invoke(app, ["track", str(run), "--to", "trackio,wandb", "--json", "-q"])
    assert both.exit_code == 1
    assert [one["failed"] for one in json.loads(both.stdout)] == ["", "OSError: \x1b[31mno quota"]
    assert "1 of 2 were not sent whole" in both.stderr
    plain = CliRunner().invoke(app, ["track", str(run), "--to", "wandb"])
    assert "4 records of mine are not there" in plain.stdout
    assert "\x1b" not in plain.stdout
