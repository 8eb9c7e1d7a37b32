"""The arena's pages over HTTP: what is shown gives nothing away, and what was acknowledged stays."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import httpx2
import pytest
import uvicorn
from tests.arenas import contest, likes_first, likes_left, made, vote_through
from tests.html_page import Page
from tests.pages import SECRET, client, running

from penchant.evaluation.arena.vote_store import open_arena
from penchant.web.arena import arena_part
from penchant.web.serve import listening
from penchant.web.site import make_site


def vote(found: httpx2.Client, key: str, **form: str) -> httpx2.Response:
    return found.post(f"/arena/{key}/vote", data=form)


def key_of(found: httpx2.Client) -> str:
    return found.get("/arena").headers["location"].rpartition("/")[2]


def test_a_page_says_nothing_of_who_is_who(tmp_path: Path) -> None:
    """Arenas that differ in which model is which alone: pages and addresses are the same but for the texts."""
    said: list[list[tuple[str, str]]] = []
    for swapped in (False, True):
        folder = tmp_path / str(swapped)
        with running([arena_part(made(folder, contest(6, swapped=swapped)))]) as origin, client(origin) as found:
            key, pages = key_of(found), []
            for place in range(6):
                page = found.get(f"/arena/{key}/vote?rater=ann")
                pages.append((str(page.url).removeprefix(origin), page.text))
                vote(found, key, rater="ann", position=str(place), attempt="0", choice="left")
            said.append(pages)
    words = {"sunny": "rainy", "rainy": "sunny"}
    for (address, page), (other_address, other) in zip(*said, strict=True):
        assert address == other_address
        assert page != other
        assert re.sub("sunny|rainy", lambda match: words[match[0]], page) == other
        assert not re.search("trained|base|first|second|swapped|repeat", page.replace("baseline", ""))


def test_votes_undo_double_clicks_and_old_pages(tmp_path: Path) -> None:
    path = made(tmp_path, contest(3))
    with running([arena_part(path)]) as origin, client(origin) as found:
        key = key_of(found)
        first = {"rater": "ann", "position": "0", "attempt": "0"}
        for _ in range(2):
            answer = vote(found, key, **first, choice="left")
            assert (answer.status_code, answer.headers["location"]) == (303, f"/arena/{key}/vote?rater=ann")
        assert vote(found, key, **first, choice="tie").headers["location"].endswith("&note=other")
        assert "Pair 2 of 3" in found.get(f"/arena/{key}/vote?rater=ann").text
        assert found.post(f"/arena/{key}/undo", data=first).status_code == 303
        assert vote(found, key, **first, choice="tie").headers["location"].endswith("&note=old")
        page = found.get(f"/arena/{key}/vote?rater=ann&note=old").text
        assert "Pair 1 of 3" in page
        assert "was not kept" in page
        vote(found, key, **first | {"attempt": "1"}, choice="tie")
        vote(found, key, rater="ann", position="1", attempt="0", choice="skip")
        vote(found, key, rater="ann", position="2", attempt="0", choice="bad")
        assert "last pair" in found.get(f"/arena/{key}/vote?rater=ann").text
        for wrong in ({"choice": "both"}, {"position": "-1"}, {"attempt": "x"}, {"rater": "a" * 41}):
            assert vote(found, key, **{**first, "choice": "left", **wrong}).status_code == 400
        assert vote(found, key, **first | {"position": "99"}, choice="left").status_code == 422
        assert found.get("/arena/no-such/vote").status_code == 404
    with open_arena(path, reading=True) as arena:
        assert [one.choice for one in arena.votes()] == ["tie", "skip", "bad"]


def test_results_name_the_models_and_warn_of_a_rater_who_goes_by_the_side(tmp_path: Path) -> None:
    path = made(tmp_path, contest(40, repeats=0.25))
    with running([arena_part(path)]) as origin, client(origin) as found:
        key = key_of(found)
        assert "Nobody has voted" in found.get(f"/arena/{key}/results").text
        with open_arena(path) as arena:
            vote_through(arena, "ann", likes_first)
            vote_through(arena, "eve", likes_left)
        words = Page(found.get(f"/arena/{key}/results").text).words
        assert "Decided: trained is preferred. You may stop." in words
        assert "eve picks the answer on the left" in words
        assert "ann picks" not in words
        assert "0.0% [0.0%, 27.8%] of 10" in words
        second = Page(found.get(f"/arena/{key}/answers?page=2").text).words
        assert "Page 2 of 2" in second
        assert "40 prompts have a vote" in second
    with running([arena_part(path, reveal=True)]) as origin, client(origin) as found:
        vote(found, key, rater="new", position="0", attempt="0", choice="left")
        assert re.search(r"Answer 1 was by \w+, answer 2 by", found.get(f"/arena/{key}/vote?rater=new").text)


def test_a_folder_of_runs_lists_arenas_and_begins_one_by_a_form(tmp_path: Path) -> None:
    samples = tmp_path / "sft-dpo" / "2-dpo" / "samples"
    samples.mkdir(parents=True)
    (samples / "test.jsonl").write_text(
        '{"id": "a", "question": "Why?", "policy": "So.", "reference": "Because."}\n'
    )
    made(tmp_path / "other")
    with running([arena_part(tmp_path)]) as origin, client(origin) as found:
        page = found.get("/arena").text
        [button] = re.findall(r'name="run" value="(\w+)"', page)
        assert "Vote on sft-dpo/2-dpo" in page
        addresses = {found.post("/arena/begin", data={"run": button}).headers["location"] for _ in range(2)}
        assert addresses == {f"/arena/{button}"}
        page = found.get("/arena").text
        assert "No further run" in page
        assert page.count("/results") == 2
        assert found.post("/arena/begin", data={"run": "nothing"}).status_code == 422
    assert (tmp_path / "sft-dpo" / "2-dpo" / "arena.sqlite").is_file()


def kill_while_voting(path: Path, kills: int, seed: int) -> tuple[list[tuple[int, int]], int]:
    """Vote as fast as it goes while the server is killed again and again; return what was acknowledged."""
    chance, acknowledged, killed = random.Random(seed), list[tuple[int, int]](), 0
    for _ in range(kills):
        with listening(0) as listener:
            port = listener.getsockname()[1]
            child = os.fork()
            if child == 0:
                try:
                    site = make_site([arena_part(path)], token=SECRET, port=port)
                    uvicorn.Server(uvicorn.Config(site, log_level="critical")).run(sockets=[listener])
                finally:
                    os._exit(1)
            listener.close()  # or a killed server's clients would wait for this process to answer
            timer = threading.Timer(chance.uniform(0.05, 0.5), os.kill, (child, signal.SIGKILL))
            try:
                with client(f"http://127.0.0.1:{port}") as found:
                    key = key_of(found)
                    while True:
                        page = found.get(f"/arena/{key}/vote?rater=ann").text
                        position, attempt = re.findall(r'name="(?:position|attempt)" value="(\d+)"', page)[:2]
                        answer = vote(found, key, rater="ann", position=position, attempt=attempt, choice="left")
                        assert answer.status_code == 303
                        acknowledged.append((int(position), int(attempt)))
                        if timer.ident is None:
                            timer.start()
            except httpx2.TransportError:
                killed += 1
            finally:
                timer.cancel()
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    return acknowledged, killed


def check_nothing_is_lost(path: Path, kills: int, seed: int) -> None:
    acknowledged, killed = kill_while_voting(path, kills, seed)
    with open_arena(path) as arena:
        kept = [(one.position, one.attempt) for one in arena.votes()]
    assert killed == kills
    print(f"{len(acknowledged)} acknowledged, {len(kept)} kept")
    assert len(acknowledged) >= kills
    assert sorted(set(acknowledged)) == sorted(acknowledged)  # none was asked for again
    assert set(acknowledged) <= set(kept)
    assert len(kept) <= len(acknowledged) + kills  # at most the one under way at each kill


def test_a_kill_in_the_middle_of_voting_loses_no_vote_that_was_acknowledged(tmp_path: Path) -> None:
    check_nothing_is_lost(made(tmp_path, contest(400, repeats=0)), 3, seed=0)


@pytest.mark.slow
def test_fifty_kills_lose_no_vote(tmp_path: Path) -> None:
    started = time.monotonic()
    check_nothing_is_lost(made(tmp_path, contest(2000, repeats=0)), 50, seed=1)
    print(f"{time.monotonic() - started:.0f} s")
