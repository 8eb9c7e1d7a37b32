"""Votes that come back from a page that was sent out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.arenas import contest, made
from tests.html_page import Page

from penchant.errors import DataError
from penchant.evaluation.arena.ballots import FORMAT, code_of, new_ballot, read_ballot
from penchant.evaluation.arena.contest import Contest, Entry, Said
from penchant.evaluation.arena.vote_store import Arena, open_arena
from penchant.reporting.arena_page import render_arena_page
from penchant.types import Turn

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u202e'


def sent_back(arena: Arena, ballot: str, count: int = 3, rater: str = "bob") -> dict[str, Any]:
    votes = [
        {"pair": place, "choice": "left", "code": code_of(arena.contest, ballot, place, "left")}
        for place in range(count)
    ]
    return {"format": FORMAT, "ballot": ballot, "rater": rater, "votes": votes}


def written(folder: Path, data: object) -> Path:
    path = folder / "votes.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_votes_are_taken_once_and_the_first_stays(tmp_path: Path) -> None:
    with open_arena(made(tmp_path)) as arena:
        ballot = new_ballot(arena)
        data = sent_back(arena, ballot)
        found = read_ballot(arena, written(tmp_path, data))
        assert (found.rater, found.new, found.known, found.other) == ("bob", 3, 0, 0)
        again = read_ballot(arena, written(tmp_path, sent_back(arena, ballot, 5)))
        assert (again.new, again.known) == (2, 3)
        changed = {"pair": 0, "choice": "right", "code": code_of(arena.contest, ballot, 0, "right")}
        other = read_ballot(arena, written(tmp_path, {**data, "votes": [changed]}))
        assert (other.new, other.other) == (0, 1)
        assert read_ballot(arena, written(tmp_path, sent_back(arena, ballot, rater="cid"))).new == 3
        assert len(arena.votes()) == 8


def of_another(data: dict[str, Any]) -> object:
    return {**data, "ballot": "0123456789abcdef"}


def swapped_choice(data: dict[str, Any]) -> object:
    return {**data, "votes": [{**data["votes"][0], "choice": "right"}, *data["votes"][1:]]}


def moved(data: dict[str, Any]) -> object:
    return {**data, "votes": [{**data["votes"][0], "pair": 9}]}


def unknown(data: dict[str, Any]) -> object:
    return {**data, "votes": [{**data["votes"][0], "pair": 10_000}]}


def twice(data: dict[str, Any]) -> object:
    return {**data, "votes": [data["votes"][0]] * 2}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (of_another, "of another arena"),
        (swapped_choice, "its code does not fit"),
        (moved, "its code does not fit"),
        (unknown, "names no pair"),
        (twice, "a second one on the same pair"),
        (lambda data: {**data, "votes": {}}, 'no list of "votes"'),
        (lambda data: {**data, "format": "else"}, "no file of votes"),
        (lambda data: {**data, "rater": "x" * 41}, "name cannot be used"),
        (lambda data: [], "no file of votes"),
        (lambda data: "{" * 100_000, "no JSON"),
    ],
)
def test_what_was_changed_is_refused_whole(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    with open_arena(made(tmp_path)) as arena:
        data = sent_back(arena, new_ballot(arena))
        with pytest.raises(DataError, match=why):
            read_ballot(arena, written(tmp_path, change(data)))
        assert arena.votes() == []


def test_a_page_names_nobody_and_runs_nothing_of_its_texts() -> None:
    entries = tuple(
        Entry(HOSTILE + str(number), (Turn("user", HOSTILE),), Said((HOSTILE,)), Said(("fine",)))
        for number in range(12)
    )
    found = Contest((f"trained {HOSTILE}", "base"), entries)
    html = render_arena_page(found, "0123456789abcdef")
    page = Page(html)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert "trained" not in html
    assert found.secret not in html
    assert "\u202e" not in html
    assert "default-src 'none'" in html
    assert "http" not in html.replace("http-equiv", "")


def test_swapping_the_models_changes_the_texts_of_a_page_alone() -> None:
    pages = [render_arena_page(contest(12, swapped=swapped), "0123456789abcdef") for swapped in (False, True)]
    assert pages[0] != pages[1]
    words = {"sunny": "rainy", "rainy": "sunny"}
    assert re.sub("sunny|rainy", lambda match: words[match[0]], pages[0]) == pages[1]
