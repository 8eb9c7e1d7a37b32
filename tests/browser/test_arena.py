"""The arena in a real browser: by keys alone, on a phone, with hostile text, and from a file that was sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.arenas import contest, made
from tests.pages import Visitor, running

from penchant.evaluation.arena.ballots import new_ballot, read_ballot
from penchant.evaluation.arena.contest import Contest, Entry, Said
from penchant.evaluation.arena.vote_store import open_arena
from penchant.reporting.arena_page import write_arena_page
from penchant.types import Turn
from penchant.web.arena import arena_part

HOSTILE = (
    '<img src=x onerror="document.title=1"><script>document.title=2</script><style>main{display:none}</style>'
    "</textarea></section></form>\u202e"
)
PHONE = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}


def hostile() -> Contest:
    entries = tuple(
        Entry(
            f"{HOSTILE} {number}",
            (Turn("system", HOSTILE), Turn("user", HOSTILE)),
            Said((HOSTILE + "x" * 300, HOSTILE), False),
            Said(("", HOSTILE)),
            (HOSTILE,),
        )
        for number in range(9)
    )
    return Contest((HOSTILE, f"{HOSTILE} (second)"), entries, 0.5)


def test_keys_alone_vote_undo_and_go_to_the_end(tmp_path: Path, visit: Callable[..., Visitor]) -> None:
    path = made(tmp_path, contest(9, repeats=0.25))
    with running([arena_part(path)]) as origin:
        page = visit(origin).go("/arena")
        page.keyboard.press("Tab")  # past the skip link and the navigation, to the name
        while page.evaluate("document.activeElement.id") != "rater":
            page.keyboard.press("Tab")
        page.keyboard.press("Control+a")
        page.keyboard.type("Ann t b 1")  # keys of votes are letters in a name
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Pair 1 of 11")
        for number, key in enumerate("12tbs12", 2):
            page.keyboard.press(key)
            page.wait_for_selector(f"text=Pair {number} of 11")
        page.keyboard.press("u")
        page.wait_for_selector("text=Pair 7 of 11")
        for number in (8, 9, 10, 11):
            page.keyboard.press("1")
            page.wait_for_selector(f"text=Pair {number} of 11")
        page.keyboard.press("t")
        page.wait_for_selector("text=That was the last pair")
        page.click("text=See the results")
        assert "trained against base" in page.inner_text("h1")
        assert "Ann t b 1" in page.inner_text("main")
    with open_arena(path, reading=True) as arena:
        votes = arena.votes()
    assert [vote.choice for vote in votes] == ["left", "right", "tie", "bad", "skip", "left", *["left"] * 4, "tie"]
    assert sum(vote.repeat for vote in votes) == 2


@pytest.mark.slow
def test_hostile_text_runs_nothing_on_a_phone_without_scripts(
    tmp_path: Path, visit: Callable[..., Visitor]
) -> None:
    with running([arena_part(made(tmp_path, hostile()))]) as origin:
        for scripts in (True, False):
            page = visit(origin, java_script_enabled=scripts, **PHONE).go("/arena")
            page.fill("#rater", f"<b>{scripts}</b>")
            page.click("form button.primary")
            for place in range(3):
                assert "onerror" in page.inner_text("main")
                assert page.title() == f"Pair {place + 1} of 13 · Penchant"
                page.click("button[value=right]")
                page.wait_for_selector(f"text=Pair {place + 2} of 13")
        page = visit(origin, **PHONE).go("/arena")
        start = page.url
        for address in (start, f"{start}/vote?rater=x", f"{start}/results", f"{start}/answers"):
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
            assert page.locator("main").is_visible()
            assert page.title() not in ("1", "2")


def opened(chromium: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """A page from a file:// address, and what it complained of or asked others for."""
    page = chromium.new_context(accept_downloads=True, **options).new_page()
    trouble: list[str] = []
    page.on("console", lambda told: trouble.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "blob:", "data:")) else trouble.append(request.url)
        ),
    )
    page.goto(path.as_uri())
    return page, trouble


@pytest.mark.parametrize("what", ["plain", pytest.param("hostile", marks=pytest.mark.slow)])
def test_a_page_that_was_sent_gives_a_file_that_is_read_back(chromium: Any, tmp_path: Path, what: str) -> None:
    with open_arena(made(tmp_path, contest(9, repeats=0.25) if what == "plain" else hostile())) as arena:
        file = write_arena_page(arena.contest, new_ballot(arena), tmp_path / "to-send.html")
        page, trouble = opened(chromium, file, **(PHONE if what == "hostile" else {}))
        page.fill("#rater", "Bob")
        page.keyboard.press("Enter")
        page.wait_for_selector("#voting:not([hidden])")
        for key in "12ut":
            page.keyboard.press(key)
        assert page.inner_text("#far").startswith("Pair 3 of")
        assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
        page.reload()  # as after a closed tab: the browser kept the votes
        assert "2 votes are kept" in page.inner_text("#again")
        assert page.input_value("#rater") == "Bob"
        page.click("form button.primary")
        page.keyboard.press("b")
        with page.expect_download() as download:
            page.click("#save")
        assert download.value.suggested_filename == "votes-Bob.json"
        download.value.save_as(tmp_path / "votes.json")
        assert json.loads((tmp_path / "votes.json").read_bytes()) == json.loads(page.input_value("#copy"))
        page.context.close()
        assert trouble == []
        assert read_ballot(arena, tmp_path / "votes.json").new == 3
        assert [(vote.rater, vote.choice) for vote in arena.votes()] == [
            ("Bob", "left"),
            ("Bob", "tie"),
            ("Bob", "bad"),
        ]
