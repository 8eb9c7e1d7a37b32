"""How a run is going, told from its files: by what they say and when they were written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.made_runs import lines_of
from tests.written_runs import write_lines, write_object, write_run, write_status

from penchant.web.run_files import RunFiles
from penchant.web.run_state import seconds_left, state_of
from penchant.web.run_views import ago, findings, run_judged, run_view, tiles

NOW = 1_800_000_000.0


def written_at(run: Path, time: float) -> None:
    for path in run.iterdir():
        os.utime(path, (time, time))


def state(run: Path, *, silent_for: float = 0.0) -> Any:
    written_at(run, NOW - silent_for)
    return state_of(RunFiles("it", run), NOW)


def test_states_are_those_of_the_status(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in ("finished", "stopped", "failed"):
        write_status(run, state=name, reason="as it ended")
        found = state(run, silent_for=1e6)
        assert (found.state, found.step, found.total, found.reason) == (name, 40, 40, "as it ended")
    assert found.last["loss"] == lines_of()[0][-1]["loss"]


@pytest.mark.parametrize(
    ("phase", "seconds", "silent_for", "expected"),
    [
        ("training", 1.0, 119, "running"),
        ("training", 1.0, 121, "silent"),
        ("training", 30.0, 299, "running"),
        ("training", 30.0, 301, "silent"),
        ("scoring the reference", 1.0, 1799, "running"),
        ("scoring the reference", 1.0, 1801, "silent"),
    ],
)
def test_a_run_that_writes_nothing_for_too_long_is_silent(
    tmp_path: Path, phase: str, seconds: float, silent_for: float, expected: str
) -> None:
    steps = [{"step": 1, "loss": 0.5, "seconds": seconds}]
    run = write_run(tmp_path / "run", state="running", phase=phase, steps=steps, pid=1, host="elsewhere")
    assert state(run, silent_for=silent_for).state == expected


def test_validation_and_answers_may_take_their_time(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", state="running", steps=[{"step": 1, "seconds": 1.0}])
    write_lines(run / "validation.jsonl", [{"step": 1, "seconds": 60.0}])
    assert state(run, silent_for=600).state == "running"


def test_what_is_damaged_is_said_and_what_is_missing_is_no_damage(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "status.json").write_text('{"state": "run', encoding="utf-8")
    (run / "config.yaml").write_text("a: [", encoding="utf-8")
    found = state(run)
    assert found.state == "damaged"
    assert [problem.split(maxsplit=1)[0] for problem in found.problems] == ["status.json", "config.yaml:"]
    (run / "status.json").write_text('{"state": "dancing"}', encoding="utf-8")
    assert state(run).state == "damaged"
    (run / "status.json").unlink()
    assert state(run).state == "unknown"


def test_time_left_is_the_mean_of_late_steps() -> None:
    rows: list[dict[str, Any]] = [{"step": step, "seconds": 100.0 if step < 10 else 2.0} for step in range(1, 31)]
    assert seconds_left(rows, 40) == pytest.approx(20.0)
    assert seconds_left(rows, None) is None
    assert seconds_left([{"step": 1}], 40) is None


def test_a_run_that_goes_on_is_judged_by_its_own_monitors(tmp_path: Path) -> None:
    steps, pairs = lines_of(lambda number, before: (-3.0, -5.0))
    run = write_run(tmp_path / "run", steps=steps, pairs=pairs, state="running", total_steps=40)
    files = RunFiles("it", run)
    found, wrong = findings(files, state_of(files, NOW))
    assert [one["title"] for one in found] == ["Chosen responses became less probable"]
    assert wrong == []
    write_object(run / "eval" / "training.json", {"findings": []})
    assert findings(files, state_of(files, NOW)) == ([], [])


def test_lines_that_no_monitor_understands_are_no_defect(tmp_path: Path) -> None:
    steps = [{"step": step, "chosen_fell_fraction": "much", "pairs": None} for step in range(1, 90)]
    files = RunFiles("it", write_run(tmp_path / "run", steps=steps, state="running"))
    found, wrong = findings(files, state_of(files, NOW))
    assert found == []
    assert "cannot make sense" in wrong[0]


def test_lines_of_a_resumed_run_count_once_and_strange_ones_are_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=[{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}])
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "loss": 3.0}\n[]\n{"step": NaN}\n{"step": 3, "lo')
    files = RunFiles("it", run)
    assert [row["loss"] for row in files.steps.rows()] == [1.0, 3.0]
    found = state_of(files, NOW)
    problems = run_view(files, found, NOW, run_judged(files, found))["problems"]
    assert problems == ["metrics.jsonl: lines that are no figures of a step: 2"]


def test_the_four_numbers_are_of_the_last_step_and_of_the_last_ten() -> None:
    steps, _ = lines_of()
    assert [tile["label"] for tile in tiles(steps)] == ["Loss", "Accuracy", "Margin", "Chosen that fell"]
    assert tiles(steps)[0]["over"] == 10
    assert [tile["label"] for tile in tiles([{"step": 1, "loss": 2.0, "grad_norm": 1.0}])] == [
        "Loss",
        "Gradient norm",
    ]
    assert tiles([]) == []


def test_ages_are_short() -> None:
    assert [ago(seconds) for seconds in (-3, 59, 61, 3 * 3600, 90 * 86400)] == [
        "0 s ago",
        "59 s ago",
        "1 min ago",
        "3 h ago",
        "90 d ago",
    ]
