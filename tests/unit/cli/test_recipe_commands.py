"""`penchant recipes` and `penchant migrate` in this process: streams, files and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penchant.cli.main import app
from penchant.recipes import load_recipe, recipe_names, recipe_text


def penchant(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


@pytest.fixture
def trl(tmp_path: Path) -> Path:
    path = tmp_path / "trl.yaml"
    path.write_text("learning_rate: 5e-7\nmax_prompt_length: 512\nloss_typ: sigmoid\n", encoding="utf-8")
    return path


def test_recipes_are_listed_with_what_they_are_and_need() -> None:
    result = penchant("recipes")
    assert result.exit_code == 0
    first_words = [line.split()[0] for line in result.stdout.splitlines() if line[:1].isalpha()]
    assert [word for word in first_words if word in recipe_names()] == recipe_names()
    assert "Qwen/Qwen3-1.7B" in result.stdout
    assert "adapters of rank 128" in result.stdout
    assert "Next     penchant recipes NAME > mine.yaml" in result.stdout


def test_recipes_as_json_hold_every_fact() -> None:
    found = json.loads(penchant("recipes", "--json").stdout)
    assert [recipe["name"] for recipe in found] == recipe_names()
    demo = next(recipe for recipe in found if recipe["name"] == "demo")
    assert demo["launch"][0] == "penchant demo"
    assert set(demo) == {
        "name", "sentence", "model", "trained", "loss", "launch", "memory", "checked", "notes",
    }  # fmt: skip


def test_a_recipe_is_printed_as_a_file_that_can_be_used(tmp_path: Path) -> None:
    result = penchant("recipes", "smollm2-hh")
    assert (result.exit_code, result.stdout) == (0, recipe_text("smollm2-hh"))
    mine = tmp_path / "mine.yaml"
    mine.write_text(result.stdout, encoding="utf-8")
    assert load_recipe(str(mine)) == load_recipe("smollm2-hh")


def test_an_unknown_recipe_is_refused_and_one_by_name_is_json_too() -> None:
    result = penchant("recipes", "dmeo")
    assert result.exit_code == 2
    assert 'Did you mean "demo"' in result.stderr
    told = json.loads(penchant("recipes", "demo", "--json").stdout)
    assert (told["name"], told["yaml"]) == ("demo", penchant("recipes", "demo").stdout)


def test_migrate_prints_the_recipe_alone_on_standard_output(trl: Path, tmp_path: Path) -> None:
    result = penchant("migrate", trl)
    assert result.exit_code == 0
    mine = tmp_path / "mine.yaml"
    mine.write_text(result.stdout, encoding="utf-8")
    assert load_recipe(str(mine)).train.learning_rate == 5e-7
    assert "Cannot be expressed" in result.stderr
    assert 'Did you mean "loss_type"' in result.stderr
    assert "penchant train mine.yaml --data data/mine" in result.stderr


def test_migrate_writes_a_file_and_lists_on_the_screen_what_it_could_not(trl: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    result = penchant("migrate", trl, "--out", out, "--gpus", 4)
    assert result.exit_code == 0
    assert load_recipe(str(out)).train.batch_pairs == 32
    assert "max_prompt_length" in result.stdout
    assert "max_prompt_length" in out.read_text(encoding="utf-8")
    again = penchant("migrate", trl, "--out", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_migrate_explains_what_it_cannot_read_or_write(trl: Path, tmp_path: Path) -> None:
    assert penchant("migrate", tmp_path / "trl.yml").exit_code == 2
    trl.write_text("beta: 0.1\nbeta: 0.2\n", encoding="utf-8")
    twice = penchant("migrate", trl)
    assert twice.exit_code == 2
    assert "'beta' stands twice" in twice.stderr
    trl.write_text("beta: 0.1\n", encoding="utf-8")
    assert penchant("migrate", trl, "--out", tmp_path / "no" / "folder.yaml").exit_code == 13
