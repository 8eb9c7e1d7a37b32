"""The pages of runs over HTTP: what they say, what they refuse, what hostile files cannot do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.html_page import Page
from tests.made_runs import lines_of, texts_of
from tests.pages import client, running
from tests.written_runs import write_lines, write_object, write_run, write_status

from penchant.errors import DataError
from penchant.evaluation.token_scores import ScoredPair, ScoredToken
from penchant.web import run_folders
from penchant.web.run_steps import RunWork
from penchant.web.runs import PAGE_POLICY, runs_part
from penchant.web.step_views import pairs_of

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202e{{ 7*7 }}'
TOKENS = ScoredPair(
    (ScoredToken("the", -1.0, -1.0), ScoredToken(" sun<b>", -0.5, -3.5)), (ScoredToken("\nrain", -2.0, -1.7),)
)


class Work:
    """Stands for what the layers above do."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def texts(self, run: Path) -> Any:
        return (texts_of(), "") if run.name != "bare" else ({}, "the data is gone")

    def tokens(self, run: Path, name: str, say: Callable[[str], None]) -> ScoredPair:
        self.asked.append((run.name, name))
        if run.name == "bare":
            raise DataError(f"no such pair {HOSTILE}")
        return TOKENS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    steps, _ = lines_of()
    steps[29]["loss"] = 9.0
    good = write_run(root / "aligned" / "2-dpo", steps=steps)
    write_object(good / "eval" / "training.json", {"findings": [], "loss_at_reference": 0.6931})
    write_object(good / "eval" / "summary.json", {"verdict": {"headline": "It worked: well.", "worked": True}})
    (good / "model").mkdir()
    (good / "report.html").write_text("<script>alert(1)</script>the report", encoding="utf-8")
    (root / "secret.html").write_text("secret", encoding="utf-8")
    bare = write_run(root / "bare", steps=[{"step": 1, "loss": 2.0}], pairs=[], state="failed", reason=HOSTILE)
    write_object(bare / "eval" / "training.json", {"findings": [{"name": HOSTILE, "remedies": [HOSTILE]}]})
    damaged = write_run(root / "damaged" / "it's <b>", config=f"a: '{HOSTILE.replace(chr(0x202E), '')}'\n")
    (damaged / "status.json").write_text("{", encoding="utf-8")
    (damaged / "metrics.jsonl").write_bytes(b'\xff\xfe\n{"step": 1, "lo')
    return root


@pytest.fixture(scope="module")
def work() -> Work:
    return Work()


@pytest.fixture(scope="module")
def known(root: Path, work: Work) -> Iterator[httpx2.Client]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_folders, "_FRESH_SECONDS", 0.0)
        parts = [runs_part(root, RunWork(work.texts, work.tokens))]
        with running(parts) as origin, client(origin) as found:
            yield found


def text_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_table_shows_the_damaged_run_beside_the_others(known: httpx2.Client) -> None:
    text = text_of(known.get("/runs"))
    for name, state in (
        ("aligned/2-dpo", "finished"),
        ("bare", "failed"),
        ("damaged/it%27s%20%3Cb%3E", "damaged"),
    ):
        row = text.split(f'href="/runs/{name}"')[1].split("</tr>")[0]
        assert f"state-{state}" in row
    assert "It worked: well." in text
    assert "40 / 40" in text
    assert "<b>" not in text
    assert "<script>document" not in text


def test_the_table_alone_is_what_a_live_page_asks_for(known: httpx2.Client) -> None:
    text = text_of(known.get("/runs", params={"live": "1"}))
    assert text.lstrip().startswith("<section")
    assert "<html" not in text


def test_a_run_has_its_figures_curves_and_steps_worth_a_look(known: httpx2.Client) -> None:
    text = text_of(known.get("/runs/aligned/2-dpo"))
    for expected in ("It worked: well.", "Chosen that fell", "found nothing against this run", "path: bundled"):
        assert expected in text
    assert text.count("<svg") == 4
    assert 'href="/runs/aligned/2-dpo/step/30">Step 30</a>' in text
    assert "deviations above" in text
    assert "data-live=" not in text  # it is finished
    live = text_of(known.get("/runs/aligned/2-dpo/live"))
    version = live.split('data-version="')[1].split('"')[0]
    again = text_of(known.get("/runs/aligned/2-dpo/live", params={"charts": version}))
    assert (live.count("<svg"), again.count("<svg")) == (4, 0)


def test_hostile_text_stays_text(known: httpx2.Client) -> None:
    for path in ("/runs", "/runs/bare", "/runs/damaged/it%27s%20%3Cb%3E", "/runs/bare/step/1"):
        text = text_of(known.get(path))
        page = Page(text)
        assert "img" not in page.tags
        assert "b" not in page.tags
        assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
        assert page.tags.count("script") == text.count('<script src="/static/runs.js" defer></script>')
        assert "\u202e" not in text
    words = Page(text_of(known.get("/runs/bare"))).words
    assert "<script>document.title=2</script>⟨U+202E⟩{{ 7*7 }}" in words


def test_runs_are_drawn_together(known: httpx2.Client) -> None:
    text = text_of(known.get("/runs/compare", params={"run": ["aligned/2-dpo", "bare", "aligned/2-dpo"]}))
    assert text.count("<svg") == 6
    assert text.count('scope="row" class="name"') == 2
    many = text_of(known.get("/runs/compare", params={"run": ["bare"] * 2 + ["aligned/2-dpo"]}))
    assert "cannot be told apart" not in many
    assert known.get("/runs/compare", params={"run": "nothing"}).status_code == 404
    assert known.get("/runs/compare").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/runs/nothing",
        "/runs/../secret.html",
        "/runs/%2e%2e/secret.html",
        "/runs/aligned/2-dpo/../../secret.html",
        "/runs/aligned/2-dpo/%2e%2e/%2e%2e/secret.html",
        "/runs/aligned/2-dpo/config.yaml",
        "/runs/aligned/2-dpo/eval/training.json",
        "/runs/aligned",
        "/runs/aligned/2-dpo/",
        "/runs/%2Fetc/passwd",
        "/runs/aligned/2-dpo/step/99",
        "/runs/aligned/2-dpo/step/-1",
        "/runs/aligned/2-dpo/step/1/pair/99",
        "/runs/aligned/2-dpo/step?n=../x",
        "/runs/bare/report.html",
    ],
)
def test_nothing_else_can_be_named(known: httpx2.Client, path: str) -> None:
    answer = known.get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_a_page_of_the_run_gets_no_script_and_no_origin(known: httpx2.Client) -> None:
    answer = known.get("/runs/aligned/2-dpo/report.html")
    assert "the report" in text_of(answer)
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert PAGE_POLICY.startswith("sandbox;")
    assert "script-src" not in PAGE_POLICY


def test_a_step_shows_its_pairs_and_is_found_by_its_number(known: httpx2.Client) -> None:
    text = text_of(known.get("/runs/aligned/2-dpo/step/5"))
    assert "say something about number 32" in text
    assert text_of(known.get("/runs/aligned/2-dpo/step", params={"n": "5"}, follow_redirects=True)) == text


def test_pairs_are_in_the_order_of_their_loss() -> None:
    line = {"id": ["a", "b", "c", 4], "loss": [0.1, 0.9, float("nan")], "chosen_log_ratio": [1.0, -2.0, "x"]}
    found = pairs_of({**line, "rejected_log_ratio": [3.0, -1.0]})
    assert [(pair["id"], pair["loss"], pair["margin"]) for pair in found] == [
        ("b", "0.9", "-1"),
        ("a", "0.1", "-2"),
        ("c", "", ""),
        ("4", "", ""),
    ]
    assert pairs_of({"id": "abc"}) == pairs_of({}) == []


def test_a_pair_shows_its_text_and_its_tokens_when_asked(known: httpx2.Client, work: Work) -> None:
    place = "/runs/aligned/2-dpo/step/2/pair/0"
    text = text_of(known.get(place))
    assert "the sun of 8 shines on 56 stones" in Page(text).words
    assert '<mark class="own">' in text
    assert "Score the tokens" in text
    assert work.asked == []
    answer = known.post(place)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{place}#tokens")
    text = _when_done(known, place)
    assert work.asked == [("2-dpo", "row-8")]
    assert 'class="token up4" title="+3.000 nats: policy -0.500, reference -3.500"> sun&lt;b&gt;</span>' in text
    assert 'class="token down2"' in text
    assert 'class="token same"' in text
    assert "<code>⏎rain</code>" in text
    assert known.post(place).status_code == 303  # known already
    assert len(work.asked) == 1


def test_what_cannot_be_shown_says_why(known: httpx2.Client, root: Path) -> None:
    _, pairs = lines_of()
    write_lines(root / "bare" / "pairs.jsonl", pairs[:2])
    place = "/runs/bare/step/2/pair/3"
    text = text_of(known.get(place))
    assert "The text is not shown: the data is gone" in text
    assert "no model/ in the run directory" in text
    known.post(place)
    assert "The tokens could not be scored: no such pair &lt;img" in _when_done(known, place)
    assert known.post("/runs/bare/step/2/pair/99").status_code == 404
    assert known.post("/runs/bare").status_code == 404
    assert known.post("/runs/nothing/step/2/pair/3").status_code == 404


def test_a_run_that_goes_on_is_told_as_far_as_it_is(known: httpx2.Client, root: Path) -> None:
    steps, pairs = lines_of()
    run = write_run(root / "aligned" / "3-more", steps=steps[:3], pairs=pairs[:3], state="running")
    try:
        text = text_of(known.get("/runs/aligned/3-more"))
        assert "step 3 / 40" in text
        assert 'data-live="/runs/aligned/3-more/live"' in text
        write_lines(run / "metrics.jsonl", steps[3:5], more=True)
        with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(steps[5])[:-9])
        assert "step 5 / 40" in text_of(known.get("/runs/aligned/3-more/live"))
        write_status(run)
        assert "data-ended" in text_of(known.get("/runs/aligned/3-more/live"))
    finally:
        shutil.rmtree(run)


def _when_done(known: httpx2.Client, place: str) -> str:
    for _ in range(100):
        text = text_of(known.get(f"{place}/live"))
        if "data-ended" in text:
            return text
    raise AssertionError("the job did not end")
