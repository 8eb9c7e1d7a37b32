"""Where runs are found: at any depth, with names that only the list itself gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penchant.web import run_folders
from penchant.web.run_folders import RunFolders, find_runs


def make_run(path: Path, name: str = "status.json") -> Path:
    path.mkdir(parents=True)
    (path / name).write_text("{}", encoding="utf-8")
    return path


def test_stages_sweeps_and_rounds_are_found_and_what_lies_in_a_run_is_not(tmp_path: Path) -> None:
    for place in ("one", "aligned/1-sft", "aligned/2-dpo", "sweep/runs/1-beta-0.05", "online/round-2/train"):
        make_run(tmp_path / place)
    make_run(tmp_path / "foreign", "metrics.jsonl")
    make_run(tmp_path / "one" / "checkpoints" / "step-3")
    make_run(tmp_path / ".hidden")
    (tmp_path / "empty").mkdir()
    assert sorted(find_runs(tmp_path).runs) == [
        "aligned/1-sft",
        "aligned/2-dpo",
        "foreign",
        "one",
        "online/round-2/train",
        "sweep/runs/1-beta-0.05",
    ]


def test_a_run_itself_has_its_own_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    make_run(run / "nested")
    assert dict(find_runs(run).runs) == {"mine": run, "mine/nested": run / "nested"}


def test_links_are_not_followed_and_strange_names_are_text(tmp_path: Path) -> None:
    make_run(tmp_path / "outside" / "run")
    root = tmp_path / "root"
    make_run(root / "a%2e b?#é")
    make_run(Path(os.fsdecode(os.fsencode(root) + b"/\xff")))
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "round").symlink_to(root)
    assert sorted(find_runs(root).runs) == ["a%2e b?#é", "\ufffd"]


def test_a_list_that_is_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        make_run(tmp_path / f"run-{number}")
    monkeypatch.setattr(run_folders, "MOST_FOLDERS", 3)
    found = find_runs(tmp_path)
    assert (len(found.runs), found.cut_off) == (2, True)


def test_a_run_that_begins_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(run_folders, "monotonic", lambda: now[0])
    folders = RunFolders(tmp_path)
    assert not folders.found().runs
    make_run(tmp_path / "late")
    assert not folders.found().runs
    now[0] = 3.0
    assert list(folders.found().runs) == ["late"]
