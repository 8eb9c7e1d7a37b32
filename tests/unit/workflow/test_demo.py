"""The demo's composition, on a tiny model and a handful of questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny import pair_rows, save_tiny, tiny_llama, write_rows

from penchant.evaluation.house_style import PASS
from penchant.workflow import demo
from penchant.workflow.demo import CONTROL_RECIPES, committed_controls, judged_row, run_demo

CONTROLS = {
    "date": "a day in May",
    "machine": "a laptop",
    "controls": [{"name": "random labels", "pass_rate": 0.1, "p_against_dpo": 0.01, "committed": False}],
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Small files in place of the packaged ones; returns the overrides for a tiny model."""
    rows = [{"id": f"q-{index}", "question": f"Why do cats purr {index} times?"} for index in range(4)]
    write_rows(tmp_path / "test_questions.jsonl", rows)
    write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    write_rows(tmp_path / "test_pairs.jsonl", pair_rows(6, seed=1))
    (tmp_path / "controls.json").write_text(json.dumps(CONTROLS), encoding="utf-8")
    monkeypatch.setattr(demo, "house_style_file", lambda name: tmp_path / f"{name}.jsonl")
    monkeypatch.setattr(demo, "files", lambda package: tmp_path)
    start = save_tiny(tmp_path / "start", tiny_llama(layers=2))
    return (
        f"model.path={start}",
        "model.last_layers=1",
        "train.max_steps=2",
        "train.batch_pairs=4",
        "eval.max_new_tokens=3",
        "engine.device=cpu",
        "engine.precision=fp32",
        "engine.threads=1",
    )


def test_the_demo_trains_its_controls_when_asked(tmp_path: Path, small: tuple[str, ...]) -> None:
    out = tmp_path / "run"
    figures = run_demo(out, controls=True, seed=3, overrides=small)
    assert figures == json.loads((out / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert (figures["seed"], figures["fast"]) == (3, False)
    assert (figures["test_questions"], figures["test_pairs"], figures["train_pairs"]) == (4, 6, 8)
    assert figures["total_seconds"] >= figures["train_seconds"] > 0
    assert figures["peak_memory_bytes"] > 0
    assert figures["verdict"]["worked"] is False
    trained = [control for control in figures["controls"] if not control["name"].startswith("reference cut")]
    assert [control["name"] for control in trained] == list(CONTROL_RECIPES)
    assert [control["committed"] for control in trained] == [False, False]
    for recipe in CONTROL_RECIPES.values():
        assert (out / "controls" / recipe / "metrics.jsonl").is_file()
        assert not (out / "controls" / recipe / "model").exists()
    assert (out / "model" / "model.safetensors").is_file()
    assert (out / "report.html").is_file()
    assert len((out / "samples" / "test.jsonl").read_text(encoding="utf-8").splitlines()) == 4


def test_the_demo_shows_committed_controls_as_such(tmp_path: Path, small: tuple[str, ...]) -> None:
    figures = run_demo(tmp_path / "run", fast=True, overrides=small)
    assert figures["fast"] is True
    control = figures["controls"][-1]
    assert control["name"] == "random labels"
    assert (control["committed"], control["date"], control["machine"]) == (True, "a day in May", "a laptop")
    assert not (tmp_path / "run" / "controls").exists()
    assert any("a day in May, not of this run" in reason for reason in figures["verdict"]["reasons"])


def test_committed_figures_are_marked_whatever_their_file_says(small: tuple[str, ...]) -> None:
    [control] = committed_controls()
    assert control["committed"] is True
    assert control["pass_rate"] == 0.1


@pytest.mark.parametrize(
    ("text", "verdict", "again"),
    [
        ("Cats purr when calm. The throat moves with every breath that they ever take in.", PASS, PASS),
        (
            "Cats purr when calm. The throat moves with every breath that they ever take in.",
            "unfinished",
            "unfinished",
        ),
        ("Cats purr.", "too_short", "too_short"),
        ("", "empty", "empty"),
    ],
)
def test_a_stored_row_is_judged_as_it_was(text: str, verdict: str, again: str) -> None:
    row = {"question": "Why do cats purr?", "policy": text, "policy_verdict": verdict}
    assert judged_row(row).verdict == again
