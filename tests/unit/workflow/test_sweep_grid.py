"""The grid of a sweep: typed by the configuration, checked before anything begins, harmless as folder names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from penchant.errors import UsageError
from penchant.workflow.sweep_grid import Axis, Point, parse_grid, sweep_points

OUT = Path("sweeps/one")


def points(*grid: str, sets: tuple[str, ...] = (), recipe: str = "smollm2-hh") -> list[Point]:
    return sweep_points(recipe, sets, parse_grid(grid), OUT)


def test_values_have_the_types_that_a_recipe_would_give_them() -> None:
    axes = parse_grid(["train.learning_rate=1e-6,3e-6", "model.lora_targets=[q_proj,v_proj],null"])
    assert axes == [
        Axis("train.learning_rate", (1e-6, 3e-6)),
        Axis("model.lora_targets", (["q_proj", "v_proj"], None)),
    ]


def test_several_grids_are_every_combination_and_the_last_changes_fastest() -> None:
    found = points("objective.beta=0.05,0.1", "train.learning_rate=1e-6,3e-6,1e-5")
    assert [(p.config.objective.beta, p.config.train.learning_rate) for p in found] == [
        (0.05, 1e-6), (0.05, 3e-6), (0.05, 1e-5), (0.1, 1e-6), (0.1, 3e-6), (0.1, 1e-5),
    ]  # fmt: skip
    assert found[1].name == "beta=0.05, learning_rate=3e-06"
    assert found[1].folder == "2-beta-0.05-learning-rate-3e-06"
    assert found[1].settings == {"objective.beta": 0.05, "train.learning_rate": 3e-6}


def test_what_is_set_holds_for_every_run_and_the_rest_is_the_recipes() -> None:
    found = points("objective.beta=0.05,0.1", sets=("train.seed=7",))
    assert {(p.config.train.seed, p.config.model.last_layers) for p in found} == {(7, 5)}


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (("objective.bet=0.1",), 'objective.bet is not a setting. Did you mean "beta"'),
        (("objectve.beta=0.1",), 'objectve is not a setting. Did you mean "objective"'),
        (("objective.beta=0.1,-1",), r"run 2 \(beta=-1\).*greater than 0"),
        (("objective.beta=warm",), "objective.beta = 'warm'"),
        (("objective.tau=0.1,0.2",), "objective.tau is not used by objective.loss"),
        (("objective.beta",), "write section.key=value"),
        (("objective.beta= ",), "write section.key=value"),
        (("beta=0.1",), "write section.key=value"),
        (("objective.beta=0.1,0.1",), "0.1 stands twice"),
        (("objective.beta=0.1", "objective.beta=0.2"), "given twice"),
        (("objective.beta=[0.1",), "not YAML"),
        (("model.path=a,b",), "cannot be swept.*no KL to a reference in common"),
        (("train.evaluate_data=a,b",), "cannot be swept"),
        (("data.exclude=a,b",), "cannot be swept"),
        ((), "nothing to sweep"),
    ],
)
def test_what_is_wrong_is_said_before_anything_begins(grid: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        points(*grid)
    assert re.search(words, str(caught.value), re.DOTALL)


def test_sft_learns_no_preference_to_judge(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("train: {seed: 1}", encoding="utf-8")
    with pytest.raises(UsageError, match="loss=sft: a sweep judges preferences"):
        points("objective.loss=dpo,sft", recipe=str(tmp_path / "r.yaml"))


def test_a_key_is_given_by_set_or_by_grid() -> None:
    with pytest.raises(UsageError, match="by --set and by --grid"):
        points("objective.beta=0.1,0.2", sets=("objective.beta=0.3",))


def test_a_recipe_with_stages_is_refused() -> None:
    with pytest.raises(UsageError, match="has stages"):
        points("objective.beta=0.1,0.2", recipe="smollm2-sft-dpo")


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "a/b", "\\u0000", "x" * 400, "-rf", "$(id)", ".", "é;ls"])
def test_a_folders_name_is_a_number_and_harmless_characters(hostile: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"model": {"lora_rank": 4}}), encoding="utf-8")
    found = points(f'model.lora_targets=["{hostile}"],[q_proj]', recipe=str(tmp_path / "r.yaml"))
    assert found[0].config.model.lora_targets is not None
    for number, point in enumerate(found, start=1):
        assert re.fullmatch(rf"{number}-[A-Za-z0-9][A-Za-z0-9.-]{{0,60}}", point.folder)
        assert not point.folder.endswith((".", "-"))


def test_numbers_of_folders_sort_as_the_runs_do() -> None:
    found = [point.folder for point in points("train.seed=" + ",".join(map(str, range(12))))]
    assert found == sorted(found)
    assert found[0] == "01-seed-0"


def test_a_run_that_validates_does_so_on_what_the_sweep_holds_back() -> None:
    found = points("objective.beta=0.1", sets=("train.evaluate_every=2",))
    assert found[0].config.train.evaluate_data == str((OUT / "data" / "validation.jsonl").resolve())
    assert points("objective.beta=0.1")[0].config.train.evaluate_data is None
    with pytest.raises(UsageError, match="holds back"):
        points("objective.beta=0.1", sets=("train.evaluate_every=2", "train.evaluate_data=test.jsonl"))
