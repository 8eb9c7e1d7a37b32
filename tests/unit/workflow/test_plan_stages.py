"""A recipe of stages is planned stage by stage, each from the model that the one before will leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny import pair_rows, save_tiny, tiny_llama, write_rows

from penchant.errors import UsageError
from penchant.recipes.stages import Stage, has_stages, load_stages
from penchant.workflow import plan as plan_module
from penchant.workflow.align import align_run
from penchant.workflow.plan_stages import plan_stages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied model, pairs, a chat data set, and a recipe of two stages that train the upper layer."""
    folder = tmp_path_factory.mktemp("stages")
    save_tiny(folder / "start", tiny_llama(layers=2, tied=True))
    write_rows(folder / "pairs.jsonl", pair_rows(8))
    talk = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": f"it is {i}"}]}
        for i in range(12)
    ]
    write_rows(folder / "chat.jsonl", talk)
    recipe: dict[str, Any] = {
        "model": {"path": str(folder / "start"), "last_layers": 1},
        "data": {"max_tokens": 96},
        "train": {"batch_pairs": 4, "learning_rate": 1e-3},
        "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
        "stages": {"sft": {"objective": {"loss": "sft"}}, "dpo": {"objective": {"loss": "dpo"}}},
    }
    (folder / "two.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return folder


def stages(folder: Path) -> list[Stage]:
    return load_stages(str(folder / "two.yaml"))


def test_stages_are_known() -> None:
    assert has_stages("smollm2-sft-dpo")
    assert not has_stages("smollm2-hh")


@pytest.mark.slow
def test_each_stage_is_as_planned_and_grades_its_plan(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    plan = plan_stages(stages(folder), data=folder / "pairs.jsonl", out=out)
    assert list(plan.stages) == ["sft", "dpo"]
    align_run(stages(folder), folder / "pairs.jsonl", out)
    for number, (name, planned) in enumerate(plan.stages.items(), start=1):
        text = (out / f"{number}-{name}" / "eval" / "training.json").read_text(encoding="utf-8")
        facts = json.loads(text)
        assert (facts["steps"], facts["parameters"]) == (planned.steps, planned.sizes.total)
        assert facts["trained_parameters"] == planned.sizes.trained
        assert planned.total is not None
        assert facts["plan"]["total_seconds"]["value"] == pytest.approx(planned.total.value)
    # the first gives the head weights of its own, and the second begins with them
    assert [planned.sizes.untied for planned in plan.stages.values()] == [True, False]


def test_what_stages_come_to_together(folder: Path) -> None:
    plan = plan_stages(stages(folder), data=folder / "pairs.jsonl", sft_data=folder / "chat.jsonl")
    sft, dpo = plan.stages.values()
    assert (sft.pairs, dpo.pairs) == (12, 8)
    assert sft.total
    assert dpo.total
    assert plan.total
    assert plan.total.value == pytest.approx(sft.total.value + dpo.total.value)
    assert plan.total.low < plan.total.value < plan.total.high == pytest.approx(sft.total.high + dpo.total.high)
    assert plan.memory == max(sft.memory, dpo.memory, key=lambda one: one.value)
    assert plan.disk == sum(sft.disk.values()) + sum(dpo.disk.values())
    assert plan.fits
    facts = json.loads(json.dumps(plan.facts()))
    assert facts["stages"]["dpo"]["pairs"] == 8
    assert facts["total_seconds"]["value"] == pytest.approx(plan.total.value)


def test_without_data_every_stage_says_so(folder: Path) -> None:
    plan = plan_stages(stages(folder), sft_data=folder / "chat.jsonl")
    assert [bool(stage.notes) for stage in plan.stages.values()] == [False, True]
    assert plan.stages["sft"].pairs == 12


def test_the_total_is_not_known_where_a_stage_cannot_be_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "available_bytes", lambda _: 1000)
    plan = plan_stages(stages(folder), data=folder / "pairs.jsonl")
    assert plan.total is None
    assert not plan.fits
    assert "total_seconds" not in plan.facts()


def test_data_for_a_stage_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="--sft-data is not used"):
        plan_stages(stages(folder)[1:], sft_data=folder / "chat.jsonl")
