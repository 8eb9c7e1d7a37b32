"""`penchant arena` in this process: begin, page, read, status, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.arenas import likes_first, likes_left, made, vote_through
from tests.tiny import save_tiny, tiny_llama, write_rows
from typer.testing import CliRunner, Result

from penchant.cli.main import app
from penchant.evaluation.arena.vote_store import open_arena
from penchant.web import serve as server


def arena(*words: object) -> Result:
    return CliRunner().invoke(app, ["arena", *map(str, words)])


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been served."""
    titles: list[str] = []

    def stand_in(parts: list, *, port: int, ready: object) -> None:
        titles.extend(part.title for part in parts)

    monkeypatch.setattr(server, "serve", stand_in)
    return titles


def test_two_models_answer_once_and_the_arena_is_gone_on_with(tmp_path: Path, served: list[str]) -> None:
    for seed, name in enumerate(("one", "other")):
        save_tiny(tmp_path / name, tiny_llama(layers=2, seed=seed))
    write_rows(tmp_path / "q.jsonl", [{"id": f"q{n}", "prompt": f"Why {n}?"} for n in range(6)])
    votes = tmp_path / "votes.sqlite"
    words = [tmp_path / "one", tmp_path / "other", "--prompts", tmp_path / "q.jsonl", "--votes", votes]
    words += ["--max-new-tokens", 4, "-q", "--set", "engine.device=cpu"]
    result = arena(*words)
    assert result.exit_code == 0, result.stderr
    assert served == ["Arena"]
    with open_arena(votes, reading=True) as opened:
        found = opened.contest
    assert found.names == ("one", "other")
    assert [entry.id for entry in found.entries] == [f"q{n}" for n in range(6)]
    assert (tmp_path / "votes-answers" / "first.jsonl").is_file()
    (tmp_path / "one" / "model.safetensors").unlink()  # what is there is not made again
    assert arena(*words).exit_code == 0
    assert arena("--votes", votes).exit_code == 0
    assert arena(votes).exit_code == 0
    assert len(served) == 4
    other = arena(*words, "--temperature", 1)
    assert other.exit_code == 2
    assert "about something else: generation was" in other.stderr
    for unused in (["--temperature", 1], ["--limit", 3], ["--repeats", 0.25]):
        assert arena("--votes", votes, *unused).exit_code == 2
    assert arena("--votes", votes, "--repeats", 0.125).exit_code == 0


def test_a_run_is_voted_on_by_the_answers_that_it_ended_with(tmp_path: Path, served: list[str]) -> None:
    (tmp_path / "mine" / "samples").mkdir(parents=True)
    write_rows(
        tmp_path / "mine" / "samples" / "test.jsonl",
        [{"id": "a", "question": "Why?", "policy": "So.", "reference": "Hm."}],
    )
    assert arena(tmp_path / "mine").exit_code == 0
    assert arena("serve", tmp_path / "mine").exit_code == 0
    assert served == ["Arena"] * 2
    result = arena("status", tmp_path / "mine")
    assert result.exit_code == 0, result.stderr
    assert "mine against its reference: 0 votes on 0 of 1 prompts" in result.stdout


@pytest.mark.slow
def test_from_votes_to_pairs(tmp_path: Path) -> None:
    path = made(tmp_path)
    with open_arena(path) as opened:
        vote_through(opened, "ann", likes_first)
        vote_through(opened, "eve", likes_left)
    result = arena("status", path)
    assert "trained against base: 48 votes on 24 of 24 prompts" in result.stdout
    assert "Warning: picks the left" in result.stdout
    alone = json.loads(arena("status", path, "--without", "eve", "--json").stdout)
    assert (alone["votes"], alone["win_rate"]["value"]) == (24, 1)
    assert 'Did you mean "eve"' in arena("status", path, "--without", "Eve").stderr
    out = tmp_path / "out"
    result = arena("export", path, "--out", out, "--without", "eve")
    assert "24 pairs from 24 votes." in result.stdout
    words = ["prepare", "local", "--source", f"{out}/pairs.jsonl", "--out", str(tmp_path / "data"), "-q"]
    prepared = CliRunner().invoke(app, words)
    assert prepared.exit_code == 0, prepared.stderr
    words = [
        "judge",
        "longer",
        "--answers",
        f"{out}/answers.jsonl",
        "--votes",
        f"{out}/votes.jsonl",
        "-q",
        "--json",
    ]
    judged = CliRunner().invoke(app, words)
    assert judged.exit_code == 0, judged.stderr
    assert json.loads(judged.stdout)["card"]["people"]["votes"] == 24


def test_a_page_is_written_and_wrong_words_are_explained(tmp_path: Path) -> None:
    path = made(tmp_path)
    result = arena(path, "--page", tmp_path / "to-send.html")
    assert result.exit_code == 0, result.stderr
    assert "penchant arena read VOTES.json" in result.stdout
    assert (tmp_path / "to-send.html").read_text("utf-8").startswith("<!doctype html>")
    assert arena(path, "--page", tmp_path / "to-send.txt").exit_code == 2
    assert arena("read", tmp_path / "none.json", "--votes", path).exit_code == 3
    assert arena("status", tmp_path / "none").exit_code == 3
    typo = arena("exprot")
    assert typo.exit_code == 2
    assert 'Did you mean "export"' in typo.stderr
    assert arena("--help").exit_code == 0
