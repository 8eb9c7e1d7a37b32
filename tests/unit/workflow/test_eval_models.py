"""Which columns a comparison has, and what is written of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.tiny import pair_rows, save_tiny, tiny_llama, write_rows

from penchant.errors import UsageError
from penchant.evaluation.measures import Measure
from penchant.types import Prompt, Turn
from penchant.workflow.eval_models import eval_models
from penchant.workflow.eval_table import columns_of, comparison_of, write_comparison
from penchant.workflow.evaluate import Column, Findings
from penchant.workflow.suites.chosen import Wanted
from penchant.workflow.suites.suite import Judged, Suite

SETTINGS = ("engine.device=cpu", "engine.precision=fp32", "engine.threads=1", "eval.max_new_tokens=4")


def run(folder: Path, loss: str, start: str) -> str:
    """A run directory as far as a comparison looks at it."""
    (folder / "model").mkdir(parents=True)
    text = yaml.safe_dump({"model": {"path": start}, "objective": {"loss": loss}})
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return str(folder)


def test_runs_are_called_after_their_loss_and_compared_with_what_the_first_started_from(tmp_path: Path) -> None:
    sft = run(tmp_path / "1-sft", "sft", "base")
    dpo = run(tmp_path / "2-dpo", "dpo", f"{sft}/model")
    columns = columns_of([sft, dpo], None, ["eval.max_new_tokens=5"])
    assert [(one.name, one.model) for one in columns] == [
        ("reference", "base"),
        ("after SFT", f"{sft}/model"),
        ("after DPO", f"{dpo}/model"),
    ]
    assert [one.run for one in columns] == [None, Path(sft), Path(dpo)]
    assert {one.config.eval.max_new_tokens for one in columns} == {5}
    assert columns_of([sft, dpo], "other")[0].model == "other"


def test_a_folder_of_stages_stands_for_its_runs_in_their_order(tmp_path: Path) -> None:
    for number, loss in ((10, "dpo"), (2, "sft"), (1, "sft")):
        run(tmp_path / f"{number}-{loss}", loss, f"start-{number}")
    (tmp_path / "3-dpo").mkdir()  # not finished
    found = columns_of([str(tmp_path)], None)
    assert [one.name for one in found] == ["reference", "after SFT (1-sft)", "after SFT (2-sft)", "after DPO"]
    assert found[0].model == "start-1"


def test_two_runs_of_one_loss_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, "dpo", "base") for name in ("a", "b")]
    assert [one.name for one in columns_of(runs, None)] == ["reference", "after DPO (a)", "after DPO (b)"]


def test_models_need_a_reference_and_different_names(tmp_path: Path) -> None:
    assert [one.name for one in columns_of(["x/reference", "y"], "start")] == ["reference", "x/reference", "y"]
    with pytest.raises(UsageError, match="--reference"):
        columns_of(["mine"], None)
    with pytest.raises(UsageError, match="mine is named twice"):
        columns_of(["mine", "./mine"], "start")


def findings(name: str, value: float) -> Findings:
    judged = Judged(
        {"quality": [Measure("it", {"a": value, "b": 0.0})], "own": []}, {"flat": 1}, {"more": 2}, {"a": "ok"}
    )
    column = Column(name, f"models/{name}", columns_of(["m"], "r")[0].config)
    return Findings(column, "digest", {"s": judged}, {"s": [[["yes", True, 1], ["again", False, 2]]]})


def test_a_comparison_holds_lines_figures_and_answers(tmp_path: Path) -> None:
    prompt = Prompt("a", (Turn("user", "Why?"),), "safe", ("And?",))
    suite = Suite("s", "content", lambda *_: None, lambda *_: Judged(), prompts=[prompt], note="what it is")
    found = [findings("reference", 0.0), findings("after DPO", 1.0)]
    comparison = comparison_of(found, [suite])
    assert list(comparison["table"]) == ["quality"]  # a heading without a line is not there
    assert [cell["value"] for cell in comparison["table"]["quality"][0]["cells"]] == [0, 0.5]
    assert comparison["figures"] == {"after DPO": {"s": {"flat": 1, "more": 2}}}
    assert comparison["suites"] == [{"name": "s", "note": "what it is", "content": "content"}]
    write_comparison(tmp_path / "new", comparison, found, [suite])
    assert json.loads((tmp_path / "new" / "eval" / "comparison.json").read_text(encoding="utf-8")) == comparison
    [line] = (tmp_path / "new" / "eval" / "answers" / "s.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert (row["id"], row["category"], row["later"]) == ("a", "safe", ["And?"])
    assert row["answers"]["after DPO"] == {"text": ["yes", "again"], "finished": [True, False], "verdict": "ok"}


def test_one_model_alone_has_its_summary_too_and_several_have_none(tmp_path: Path) -> None:
    for seed, name in enumerate(("start", "one", "two")):
        save_tiny(tmp_path / name, tiny_llama(layers=1, seed=seed))
    data = Wanted(data=write_rows(tmp_path / "pairs.jsonl", pair_rows(6)))
    start = str(tmp_path / "start")
    options = {"reference": start, "overrides": SETTINGS}
    figures, comparison, target = eval_models([str(tmp_path / "one")], data, out=tmp_path / "a", **options)  # pyright: ignore[reportArgumentType]
    summary = json.loads((tmp_path / "a" / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert (summary, target) == (figures, tmp_path / "a")
    line = comparison["table"]["preference"][0]
    assert summary["preference_accuracy_policy"] == pytest.approx(line["cells"][1]["value"])
    assert summary["preference_accuracy_reference"] == pytest.approx(line["cells"][0]["value"])
    both = [str(tmp_path / name) for name in ("one", "two")]
    figures, _, target = eval_models(both, data, out=tmp_path / "b", **options)  # pyright: ignore[reportArgumentType]
    assert figures == {}
    assert (tmp_path / "b" / "eval" / "comparison.json").is_file()
    assert not (tmp_path / "b" / "eval" / "summary.json").exists()
    assert eval_models(both[:1], data, **options)[2] is None  # pyright: ignore[reportArgumentType]
