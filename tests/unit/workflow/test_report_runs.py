"""One page on several runs: overlaid, tested where the rows are the same, and made of whatever is there."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.html_page import Page
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.config import build_config
from penchant.errors import UsageError
from penchant.reporting.report_runs import render_runs_report
from penchant.reporting.runs_charts import OVERLAYS, apart, overlay
from penchant.workflow.report_runs import report_runs

HOSTILE = "</td><script>alert(1)</script>\x1b[31m\u202e'\""


def make_run(run: Path, *, passes: int, rate: float = 1e-6, hostile: str = "") -> Path:
    """A finished run without a model: 3 steps, 20 questions of which the policy passes the first so many."""
    for folder in ("eval", "samples"):
        (run / folder).mkdir(parents=True)
    config = build_config({"train": {"learning_rate": rate}}).resolved()
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "run": {"git": f"g{hostile}"}}), encoding="utf-8")
    (run / "eval" / "training.json").write_text('{"train_seconds": 60}', encoding="utf-8")
    verdict = {"worked": True, "headline": f"So it is{hostile}."}
    summary = {"verdict": verdict, "pass_rate_policy": passes / 20, "pass_rate_policy_interval": [0.1, 0.9]}
    (run / "eval" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    lines: list[dict[str, Any]] = [
        {"step": step, "loss": 0.7 - step * passes / 100, "pairs": 8, "rewards/margins": step / 10}
        for step in (1, 2, 3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    answers = (
        {"id": n, "question": f"q{n}", "policy": "a b", "policy_verdict": "pass" if n < passes else "too long"}
        for n in range(20)
    )
    text = "".join(json.dumps(answer) + "\n" for answer in answers)
    (run / "samples" / "test.jsonl").write_text(text, encoding="utf-8")
    return run


def test_runs_are_held_against_the_first_on_the_same_questions(tmp_path: Path) -> None:
    """4 and 16 of 20 pass: 12 gained and none lost, exact McNemar p = 2 / 2^12."""
    runs = [make_run(tmp_path / "a", passes=4), make_run(tmp_path / "b", passes=16, rate=1e-5)]
    page = Page(report_runs(runs, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "answers that pass20.0% (5.0% to 40.0%)80.0% (60.0% to 95.0%)+60.0% (35.0% to 80.0%)" in page.words
    assert "p = 0.00049, exact McNemar ≠" in page.words
    assert "train.learning_rate1e-061e-05" in page.words
    assert page.words.count("✓ It worked") == 2
    assert "Reward margin (beta x nats)" in page.text
    assert page.tags.count("h1") == 1


def test_what_chance_may_have_done_is_not_marked(tmp_path: Path) -> None:
    """4 and 5 of 20 pass: one gained, p = 1."""
    runs = [make_run(tmp_path / "a", passes=4), make_run(tmp_path / "b", passes=5)]
    words = Page(report_runs(runs, tmp_path / "page.html").read_text(encoding="utf-8")).words
    assert "p = 1, exact McNemar" in words
    assert words.count("≠") == 1  # where the mark is explained


def test_runs_that_cannot_be_tested_are_shown_with_the_reason(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", passes=4), tmp_path / "b"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "metrics.jsonl").write_text('{"step": 1, "loss": 0.6}\n', encoding="utf-8")
    words = Page(report_runs(runs, tmp_path / "page.html").read_text(encoding="utf-8")).words
    assert "Nothing was tested pair by pair" in words
    assert "there is no config.yaml in it" in words
    assert "? Not evaluated yet" in words
    with pytest.raises(UsageError, match="named twice"):
        report_runs([runs[0], runs[0]], tmp_path / "page.html")


def test_a_file_that_somebody_edited_is_a_reason_too(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", passes=4), make_run(tmp_path / "b", passes=5)]
    (runs[1] / "metrics.jsonl").write_text('{"step": 1}\n[]\n{"loss": 2}\n', encoding="utf-8")
    words = Page(report_runs(runs, tmp_path / "page.html").read_text(encoding="utf-8")).words
    assert "Nothing was tested pair by pair: " in words
    assert "metrics.jsonl line 2 is not a JSON object" in words


def test_hostile_names_and_settings_stay_text_and_the_bytes_are_the_same_twice(tmp_path: Path) -> None:
    names = ("a<b>&'x", "b")
    runs = [make_run(tmp_path / name, passes=4, hostile=HOSTILE) for name in names]
    page = render_runs_report(runs, why_not=HOSTILE)
    assert page == render_runs_report(runs, why_not=HOSTILE)
    assert not {"script", "img", "b"} & {tag for tag in Page(page).tags if tag != "b"}
    assert "<script>alert(1)</script>" in Page(page).text
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)


def test_the_command_writes_one_page_or_the_runs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make_run(tmp_path / "a", passes=4), make_run(tmp_path / "b", passes=5)]
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    several = runner.invoke(app, ["report", *map(str, runs)])
    assert several.exit_code == 0, several.output
    assert "2 runs side by side" in (tmp_path / "report-runs.html").read_text(encoding="utf-8")
    assert f"penchant compare {runs[0]} {runs[1]}" in several.output
    one = runner.invoke(app, ["report", str(runs[0]), "--out", "own.html"])
    assert one.exit_code == 0, one.output
    assert (tmp_path / "own.html").is_file()
    assert not (runs[0] / "report.html").exists()


def test_each_run_has_its_own_colour_and_dashes_and_its_name_in_the_chart() -> None:
    rows = [[{"step": step, "loss": step * place} for step in (1, 2, 3)] for place in range(1, 7)]
    chart = overlay(OVERLAYS[0], [f"run <{place}>" for place in range(6)], rows)
    assert chart is not None
    strokes = re.findall(r'stroke="(#[0-9a-f]{6})"', chart.svg)
    assert len(set(strokes)) == 5  # the sixth is drawn in the ink of the page
    assert all(f"run &lt;{place}&gt;" in chart.svg for place in range(6))
    assert [row[0] for row in chart.rows] == [f"run <{place}>" for place in range(6)]
    assert overlay(OVERLAYS[1], ["a"], [[]]) is None


def test_names_at_the_ends_of_lines_do_not_lie_over_each_other() -> None:
    found = apart([0.5, 0.5, 0.98, 1.0, 0.51])
    inorder = sorted(found)
    assert all(above - below > 0.0899 for below, above in pairwise(inorder))
    assert max(found) <= 1.0
    assert found[2] < found[3]
    assert apart([]) == []
