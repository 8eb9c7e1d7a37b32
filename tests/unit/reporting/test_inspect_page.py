"""The page on pairs: complete, self-contained, harmless with hostile rows."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.html_page import Page

from penchant.data.lint import Finding, lint
from penchant.data.statistics import PairLength, length_figures, pair_length
from penchant.errors import DiskError
from penchant.reporting.histogram import BINS, histogram
from penchant.reporting.inspect_page import (
    InspectResult,
    ShownPair,
    facts,
    length_charts,
    render_inspect_page,
    write_inspect_page,
)
from penchant.tokens.show import Piece
from penchant.types import LedgerEntry, PreferencePair, Turn

HOSTILE = (
    "</p></script><script>alert(1)</script><img src=x onerror=alert(2)>]]>--><svg onload=alert(3)>"
    "\x1b[31m\u202e\u200b{{ 7 * 7 }}'\"`"
)


def pair(number: int = 1, text: str = "", **more: Any) -> PreferencePair:
    prompt = (Turn("system", f"be kind{text}"), Turn("user", f"question {number}{text}"))
    return PreferencePair(
        f"id-{number}{text}",
        prompt,
        f"chosen words {number}{text}",
        f"rejected {number}{text}",
        source=f"folder/train.jsonl{text}",
        line=number,
        **more,
    )


def tokens(text: str = "") -> tuple[Piece, ...]:
    return (
        Piece(f"ask{text}\n", 11, "prompt", scored=False, boundary=True),
        Piece(f" good{text}", 22, "chosen", scored=True, boundary=True),
        Piece(f" bad{text}", 33, "rejected", scored=True, boundary=True),
        Piece(f" tool{text}", 44, "rejected", scored=False, boundary=False),
    )


def result(pairs: list[PreferencePair], *, first: int = 200, text: str = "", **changes: Any) -> InspectResult:
    fate = LedgerEntry("train.jsonl", 1, "id-1", "cut", f"response_cut{text}", f"7 tokens{text}")
    views = [ShownPair("train" + text, one, tokens(text), fate, fate) for one in pairs[:first]]
    values: dict[str, Any] = {
        "path": Path("my pairs"),
        "rows": {f"train{text}": len(pairs)},
        "dropped": {f"empty_response{text}": 3},
        "figures": {f"train{text}": length_figures(pairs)},
        "lengths": [pair_length(one) for one in pairs],
        "findings": lint({"train": pairs}),
        "shown": views,
        "focus": views[0],
        "tokenizer": f"the tokenizer{text}",
        "max_tokens": 512,
        "fates": {("dropped", f"too_short{text}"): 4},
        "notes": [f"A note{text}."],
    }
    return InspectResult(**(values | changes))


def page_of(found: InspectResult) -> Page:
    return Page(render_inspect_page(found))


def test_everything_known_is_on_the_page() -> None:
    one = pair(1, score_chosen=4.5, score_rejected=2, chosen_complete=False, origin="shop")
    lead = (Turn("assistant", "earlier words", tool_calls='[{"name": "look"}]'), Turn("tool", "tool words"))
    page = page_of(result([one, pair(2, chosen_lead=lead)]))
    parts = ["my pairs", "train 2", "all 2 pairs", "the tokenizer, cut to 512", "A note.", "be kind", "question 1"]
    parts += ["chosen words 2", "rejected 2", "earlier words", "tool words", '"look"', "cut off in the data"]
    parts += [
        "score_chosen 4.5, score_rejected 2",
        "shop",
        "train.jsonl, line 2",
        "prompt 4, chosen 3, rejected 2",
    ]
    parts += ["cut: response_cut (7 tokens)", "prompt 1, chosen 1, rejected 2", "too_short", "empty_response"]
    parts += ["100.0%", "34.2% to 100.0%", "Lint found nothing", "ask↵", " tool"]
    assert [part for part in parts if part not in page.words and part not in page.text] == []


def test_without_findings_tokens_or_drops_it_says_so() -> None:
    bare = ShownPair("train", pair())
    page = page_of(
        result([pair()], findings=[], tokenizer="", fates={}, dropped={}, notes=(), shown=[bare], focus=bare)
    )
    assert "Lint found nothing" in page.words
    assert "No tokenizer was given" in page.words
    assert "What became of the rows" not in page.text
    assert "Tokenising" not in page.text
    assert "✗" not in page.text


def test_a_pair_that_tokenising_drops_says_so() -> None:
    fate = LedgerEntry("train.jsonl", 1, "id-1", "dropped", "prompt_too_long")
    dropped = ShownPair("train", pair(), (), fate)
    assert "Not tokenised" in page_of(result([pair()], shown=[dropped], focus=dropped)).text


def test_errors_and_warnings_are_counted_and_stand_with_advice_and_places() -> None:
    findings = [
        Finding("prompt_leak", "error", 1, ("test a (line 1)",), "Split again."),
        Finding("zero_width", "warning", 7, ("train b (line 2)", "train c (line 3)"), "Take them out."),
        Finding("mojibake", "warning", 1, ("train d (line 4)",), "Decode again."),
    ]
    words = page_of(result([pair()], findings=findings)).words
    assert "✗ Lint: 1 error, 2 warnings" in words
    assert "Split again. test a (line 1) warning · zero_width" in words
    assert "pairs with zero-width spaces, byte-order marks or soft hyphens: 7" in words
    assert "train c (line 3)" in words
    assert "and 5 more" in words
    assert "! Lint: 0 errors, 2 warnings" in page_of(result([pair()], findings=findings[1:])).words


def test_how_many_pairs_of_how_many_are_shown_is_stated_and_true() -> None:
    page = page_of(result([pair(number) for number in range(1, 8)], first=3))
    assert "This page shows the first 3 of 7 pairs" in page.words
    assert "The first 3 of 7 pairs" in page.words
    assert page.attributes.count(("class", "pair")) == 3
    assert [value for name, value in page.attributes if name == "data-pair"] == ["pair-1", "pair-2", "pair-3"]
    assert {f"pair-{number}" for number in (1, 2, 3)} <= {value for name, value in page.attributes if name == "id"}
    assert "question 3" in page.text
    assert "question 4" not in page.text


def test_tokens_show_their_mask_their_boundaries_and_their_ids() -> None:
    html = render_inspect_page(result([pair()]))
    assert '<i title="11" class="e">ask↵\n</i>' in html
    assert '<b title="22" class="e"> good</b>' in html
    assert '<b title="33" class="e"> bad</b><i title="44"> tool</i>' in html


def test_hostile_rows_stay_text() -> None:
    harmless = page_of(result([pair(), pair(2)]))
    html = render_inspect_page(result([pair(1, HOSTILE), pair(2, HOSTILE)], text=HOSTILE))
    page = Page(html)
    assert page.tags.count("script") == 1
    assert not {"img", "iframe", "object", "form", "link", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert page.tags.count("svg") == harmless.tags.count("svg")
    assert page.tags.count("details") == harmless.tags.count("details")
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "⟨U+001B⟩[31m⟨U+202E⟩⟨U+200B⟩" in page.text
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]", html)


def test_the_policy_lets_only_the_page_s_own_style_and_script_run() -> None:
    html = render_inspect_page(result([pair(1, HOSTILE)]))
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert len(policy) == 1
    parts = {part.split()[0]: part.split()[1:] for part in policy[0].split(";")}
    assert parts["default-src"] == ["'none'"]
    for tag in ("style", "script"):
        (source,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert parts[f"{tag}-src"] == [f"'sha256-{digest}'"]
    assert not re.findall(r'(?:src|href)="(?!#)', html)
    assert "http:" not in html
    assert "https:" not in html


def test_the_script_holds_no_data_and_the_search_waits_for_it() -> None:
    scripts = [
        re.findall(r"<script>.*?</script>", render_inspect_page(result([one])), flags=re.DOTALL)
        for one in (pair(), pair(5, HOSTILE))
    ]
    assert scripts[0] == scripts[1]
    assert '<div class="search" hidden>' in render_inspect_page(result([pair()]))


def test_the_same_result_gives_the_same_page() -> None:
    assert render_inspect_page(result([pair()])) == render_inspect_page(result([pair()]))


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "page.html"
    assert write_inspect_page(result([pair()]), target) == target
    assert target.read_text(encoding="utf-8") == render_inspect_page(result([pair()]))
    with pytest.raises(DiskError):
        write_inspect_page(result([pair()]), target / "below a file" / "page.html")


def test_facts_leave_out_what_is_not_known() -> None:
    assert facts(ShownPair("train", PreferencePair("a", (Turn("user", "b"),), "c d", "e"))) == [
        ("Words", "prompt 1, chosen 2, rejected 1")
    ]


# ------------------------------------------------------------------------------------------- histogram


def bars(svg: str) -> list[tuple[str, float]]:
    found = [element for element in ElementTree.fromstring(svg) if element.tag == "rect"]
    return [(element.get("fill", ""), float(element.get("height", ""))) for element in found]


def test_bars_are_as_high_as_their_counts() -> None:
    """Values 0, 0, 0, 1 and 2, 2: bars of 3, 1, 0 and 0, 0, 2 in steps of one."""
    chart = histogram("lengths", "Lengths", {"one": [0, 0, 0, 1], "other": [2, 2]})
    heights = bars(chart.svg)
    colours = list(dict.fromkeys(colour for colour, _ in heights))
    full = max(height for _, height in heights)
    by_series = [
        [round(3 * height / full) for colour, height in heights if colour == wanted] for wanted in colours
    ]
    assert by_series == [[3, 1, 0], [0, 0, 2]]
    assert chart.rows == (("one", "0", "0.85", "1"), ("other", "2", "2", "2"))
    assert chart.note == "a bar: 1 word; the last one: 2 and more"


def test_one_very_long_text_does_not_squeeze_the_rest() -> None:
    chart = histogram("lengths", "Lengths", {"one": [*range(100), *range(100), 1_000_000]})
    heights = [height for _, height in bars(chart.svg)]
    assert len(heights) <= BINS
    assert sum(height > 0 for height in heights) >= 15
    assert chart.rows[0][-1] == "1e+06"


def test_a_histogram_has_an_accessible_name_and_no_style() -> None:
    charts = length_charts([PairLength(3, 4, 5, -1)])
    assert len(charts) == 2
    for chart in charts:
        root = ElementTree.fromstring(chart.svg)
        named = {child.get("id"): child.text for child in root if child.tag in ("title", "desc")}
        assert set((root.get("aria-labelledby") or "").split()) == set(named)
        assert chart.title in named.values()
        assert "style" not in chart.svg
    assert length_charts([]) == []
