"""Votes on disk: once each, taken back by a further row, never changed, and by several at once."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.arenas import contest, likes_first, made, vote_through

from penchant.errors import DataError, DiskError
from penchant.evaluation.arena import vote_file
from penchant.evaluation.arena.vote_file import is_arena
from penchant.evaluation.arena.vote_store import create_arena, open_arena

SERIES = "live:ann"


def test_a_vote_given_twice_is_one_and_the_first_one_stays(tmp_path: Path) -> None:
    with open_arena(made(tmp_path)) as arena:
        assert arena.cast(SERIES, "ann", 0, 0, "left") == "new"
        assert arena.cast(SERIES, "ann", 0, 0, "left") == "same"
        assert arena.cast(SERIES, "ann", 0, 0, "right") == "other"
        assert [vote.choice for vote in arena.votes()] == ["left"]
        standing = arena.standing(SERIES, "ann")
        assert standing.showing is not None
        assert (standing.showing.position, standing.done) == (1, 1)


def test_undo_adds_a_row_and_the_pair_comes_again(tmp_path: Path) -> None:
    path = made(tmp_path)
    with open_arena(path) as arena:
        arena.cast(SERIES, "ann", 0, 0, "left")
        arena.cast(SERIES, "ann", 1, 0, "tie")
        assert arena.undo(SERIES, "ann", 1, 0)
        assert not arena.undo(SERIES, "ann", 1, 0)  # a double click
        assert arena.cast(SERIES, "ann", 1, 0, "bad") == "old"  # a page from before
        standing = arena.standing(SERIES, "ann")
        assert standing.showing is not None
        assert (standing.showing.position, standing.attempt) == (1, 1)
        assert arena.cast(SERIES, "ann", 1, 1, "bad") == "new"
        assert [vote.choice for vote in arena.votes()] == ["left", "bad"]
    with sqlite3.connect(path) as connection:
        kinds = [row[0] for row in connection.execute("SELECT kind FROM votes ORDER BY number")]
        assert kinds == ["vote", "vote", "undo", "vote"]
        for change in ("UPDATE votes SET choice = 'right'", "DELETE FROM votes"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(change)
    connection.close()


def test_a_power_cut_loses_no_vote_as_far_as_sqlite_can_see_to_it(tmp_path: Path) -> None:
    with open_arena(made(tmp_path)) as arena:
        connection = arena._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_two_raters_and_two_tabs_at_once(tmp_path: Path) -> None:
    """Each tab has a connection of its own; two tabs of one rater give every pair one vote."""
    path = made(tmp_path)

    def tab(rater: str, choice: str) -> list[str]:
        with open_arena(path) as arena:
            total = len(arena.showings(f"live:{rater}"))
            return [arena.cast(f"live:{rater}", rater, place, 0, choice) for place in range(total)]  # pyright: ignore

    with ThreadPoolExecutor(4) as threads:
        jobs = [
            threads.submit(tab, *job)
            for job in (("ann", "left"), ("ann", "right"), ("bob", "tie"), ("bob", "tie"))
        ]
        outcomes = [job.result() for job in jobs]
    assert set(zip(outcomes[0], outcomes[1], strict=True)) <= {("new", "other"), ("other", "new")}
    assert set(zip(outcomes[2], outcomes[3], strict=True)) <= {("new", "same"), ("same", "new")}
    with open_arena(path, reading=True) as arena:
        votes = arena.votes()
    assert len(votes) == 2 * 27
    assert len({(vote.rater, vote.position) for vote in votes}) == len(votes)


def test_what_cannot_be_used_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vote_file, "_BUSY_SECONDS", 0.05)
    path = made(tmp_path)
    with pytest.raises(DiskError, match="such a file already"):
        create_arena(path, contest())
    with pytest.raises(DataError, match="no such arena"), open_arena(tmp_path / "none"):
        pass
    (tmp_path / "text").write_text("not SQLite " * 100)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE things (name)")
    other.close()
    for name in ("text", "other"):
        assert not is_arena(tmp_path / name)
        with pytest.raises(DataError, match="no arena of Penchant"), open_arena(tmp_path / name):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be kept"):
        create_arena(tmp_path / "file" / "arena.sqlite", contest())
    busy = sqlite3.connect(path, isolation_level=None)
    with open_arena(path) as arena:
        busy.execute("BEGIN IMMEDIATE")
        with pytest.raises(DiskError, match="keeps this file locked"):
            arena.cast(SERIES, "ann", 0, 0, "left")
        busy.execute("ROLLBACK")
        assert arena.cast(SERIES, "ann", 0, 0, "left") == "new"
        with pytest.raises(DataError, match="no such pair"):
            arena.cast(SERIES, "ann", 1000, 0, "left")
    busy.close()


def test_a_read_only_file_can_be_read_and_says_why_it_takes_no_vote(tmp_path: Path) -> None:
    path = made(tmp_path)
    with open_arena(path) as arena:
        vote_through(arena, "ann", likes_first)
    assert is_arena(path)
    with open_arena(path, reading=True) as arena:
        assert len(arena.votes()) == 27
        with pytest.raises(DiskError, match="readonly database"):
            arena.cast(SERIES, "eve", 0, 0, "left")
