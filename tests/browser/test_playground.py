"""The playground in a real browser: by keyboard alone, while answers grow, with hostile text everywhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from tests.pages import Visitor, running
from tests.playground import RUN, MadeUpModels
from tests.tiny import save_tiny, tiny_llama

from penchant.types import Sampling
from penchant.web.playground import playground_part
from penchant.web.playground_talk import Choice
from penchant.workflow.playground.models import RunModels

HOSTILE = (
    '<img src=x onerror="document.title=1"><script>document.title=2</script><style>main{display:none}</style>'
    '\u202e</p></div>"><iframe src=//example.com></iframe>'
)
SAMPLING = Sampling(temperature=0.7, top_p=0.9)


def test_a_conversation_by_keyboard_alone_while_the_answers_grow(
    visit: Callable[..., Visitor], tmp_path: Path
) -> None:
    models, pairs = MadeUpModels(), tmp_path / "pairs.jsonl"
    models.go.clear()
    with running([playground_part(models, sampling=SAMPLING, max_new_tokens=64, pairs=pairs)]) as origin:
        page = visit(origin, viewport={"width": 390, "height": 800}, color_scheme="dark").go("/playground")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.focus("#question")
        page.keyboard.type("Why?")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#text-right:text-is('The')")
        assert page.inner_text("#status") == "Being written …"
        page.evaluate("document.querySelector('#stop button').focus()")
        page.keyboard.press("Escape")
        page.wait_for_selector("#status:has-text('Stopping')")
        models.go.set()
        page.wait_for_selector("#status:has-text('Stopped after')")
        page.focus("#question")
        page.keyboard.type("And now?")
        models.go.clear()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#status:has-text('Being written')")
        models.go.set()
        page.wait_for_selector("#status:has-text('Answered in')")
        assert page.locator("#live .panel mark.own").all_inner_texts() == [" often", "never "]
        assert page.evaluate("document.activeElement.id") == "question"  # to go on at once
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        left = page.locator("#live").get_by_role("button", name="Left was better")
        left.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Kept: the left answer was better.")
        assert [json.loads(line)["better_side"] for line in pairs.read_text("utf-8").splitlines()] == ["left"]
        names = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(one => one.tagName)")
        levels = [int(name[1]) for name in names]
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))


def test_hostile_text_is_shown_and_does_nothing(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    models = MadeUpModels(
        answers={"left": f"left {HOSTILE}", "right": f"right {HOSTILE}"},
        found=(Choice(HOSTILE, "a", reference=HOSTILE, beta=0.1), RUN),
        starts=(HOSTILE,),
    )
    part = playground_part(
        models, sampling=SAMPLING, max_new_tokens=9, pairs=tmp_path / "<i>.jsonl", where=HOSTILE
    )
    with running([part]) as origin:
        page = visit(origin).go("/playground")
        assert page.locator("main script, main iframe, main img, main style").count() == 0
        page.click("summary:has-text('System message')")
        page.fill("#system", HOSTILE)
        page.click("ul.starts button")
        page.wait_for_selector("#status:has-text('Answered in')")
        page.get_by_role("button", name="Right was better").click()
        page.wait_for_selector("text=Kept: the right")
        page.goto(f"{origin}/playground")
        for address in (f"{origin}/playground", page.locator("main ul a").last.get_attribute("href")):
            page.goto(address if address.startswith("http") else origin + address)
            assert page.locator("main script, main iframe, main img, main style").count() == 0
            assert page.title() == "Playground · Penchant"
            assert "onerror" in page.inner_text("main")
            assert "⟨U+202E⟩" in page.inner_text("main")


@pytest.mark.slow
def test_without_scripts_the_page_is_read_again_until_it_is_answered(visit: Callable[..., Visitor]) -> None:
    models = MadeUpModels()
    models.go.clear()
    with running([playground_part(models, sampling=SAMPLING, max_new_tokens=64)]) as origin:
        page = visit(origin, java_script_enabled=False).go("/playground")
        page.click("ul.starts button >> nth=0")
        page.wait_for_selector("text=Being written")
        assert page.locator("#question").count() == 0  # no words that a reload would take away
        models.go.set()
        page.wait_for_selector("text=Answered in", timeout=20000)
        page.fill("#question", "And now?")
        page.click("button.primary")
        page.wait_for_selector("section:has-text('And now?') >> text=Answered in", timeout=20000)


@pytest.mark.slow
def test_a_tiny_run_beside_its_reference(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    """Real models: loaded on first use, answers that grow, figures, and a load that fails beside them."""
    save_tiny(tmp_path / "start", tiny_llama(layers=2))
    for name in ("one", "torn"):
        save_tiny(tmp_path / "runs" / name / "model", tiny_llama(layers=2, seed=1))
        config = {"model": {"path": str(tmp_path / "start")}, "engine": {"device": "cpu", "precision": "fp32"}}
        (tmp_path / "runs" / name / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (tmp_path / "runs" / "torn" / "model" / "model.safetensors").write_bytes(os.urandom(64))
    models = RunModels(tmp_path / "runs", overrides=["engine.threads=1"])
    with running([playground_part(models, sampling=SAMPLING, max_new_tokens=40)]) as origin:
        page = visit(origin).go("/playground?policy=torn")
        page.fill("#question", "Why?")
        page.click("button.primary")
        page.wait_for_selector("text=No answer:", timeout=60000)
        page.goto(f"{origin}/playground?policy=one")
        page.click("ul.starts button >> nth=0")
        page.wait_for_selector("#status:has-text('Answered in')", timeout=60000)
        assert re.search(r"leans to the|say nothing clear", page.inner_text("#live"))
