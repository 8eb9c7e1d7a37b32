"""Whose a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.errors import UsageError
from penchant.recipes import load_recipe
from penchant.recipes.migration import migrate_file, recognise


@pytest.mark.parametrize(
    ("values", "tool"),
    [
        ({"base_model": "m", "rl": "dpo", "learning_rate": 1}, "axolotl"),
        ({"model_name_or_path": "m", "stage": "dpo", "pref_beta": 0.1}, "llamafactory"),
        ({"model_name_or_path": "m", "loss_type": "sigmoid", "beta": 0.1}, "trl"),
        ({"zzz": 1}, "trl"),
        (None, "trl"),
        ([1], "trl"),
    ],
)
def test_a_file_is_recognised_by_its_keys(values: Any, tool: str) -> None:
    assert recognise(values, where="file") == tool


def test_keys_that_several_tools_have_ask_for_a_word() -> None:
    with pytest.raises(UsageError, match="could be of trl or axolotl or llamafactory") as caught:
        recognise({"learning_rate": 1e-6, "seed": 1}, where="file")
    assert "--from trl|axolotl|llamafactory" in str(caught.value)


def test_an_unknown_tool_is_answered_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match='Did you mean "axolotl"'):
        migrate_file(file, tool="axolot")


def test_the_command_says_whose_file_it_took_it_for(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("rl: dpo\nbase_model: some/model\nmicro_batch_size: 2\n", encoding="utf-8")
    out = tmp_path / "mine.yaml"
    words = ["migrate", str(file), "--out", str(out), "--devices", "3"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "a configuration of axolotl" in result.stdout
    assert load_recipe(str(out)).train.batch_pairs == 6
    other = CliRunner().invoke(app, ["migrate", str(file), "--from", "trl"], env={"COLUMNS": "160"})
    assert other.exit_code == 0
    assert "a configuration of TRL" in other.stderr
    assert "micro_batch_size" in other.stderr
