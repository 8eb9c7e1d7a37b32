"""The page of a comparison: every figure with its test, some answers, and nothing that a text could make of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.html_page import Page

from penchant.evaluation.measures import Measure, compare_measures
from penchant.reporting.comparison_page import comparison_tables, render_comparison_page
from penchant.reporting.report import render_report

FEW, MANY = [1.0] * 2 + [0.0] * 8, [1.0] * 9 + [0.0]


def measures(refused: list[float], words: list[float], name: str = "refused") -> list[Measure]:
    def over(name: str, values: list[float], **options: Any) -> Measure:
        return Measure(name, {str(place): value for place, value in enumerate(values)}, **options)

    return [
        over(name, refused, better="higher"),
        over("of violence", refused[:2], detail=True),
        over("words", words, kind="mean"),
    ]


def compared(*names: str, name: str = "refused") -> dict[str, Any]:
    columns = [
        measures(FEW, [9.0, 8.0, 7.0], name),
        measures(MANY, [2.0, 3.0, 4.0], name),
        measures(FEW, [9.0] * 3),
    ]
    if len(names) == 2:
        columns = columns[:2]
    return {
        "columns": [{"name": each, "model": each, "run": None} for each in names],
        "suites": [{"name": "xstest", "note": ""}, {"name": "ifeval", "note": f"a note{name}"}],
        "table": {"harmlessness": compare_measures(columns)},
    }


def said(place: int, *verdicts: str, names: tuple[str, ...], text: str = "no") -> dict[str, Any]:
    answers = zip(names, verdicts, strict=True)
    return {
        "id": f"x-{place}{text}",
        "category": f"homonyms{text}",
        "prompt": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": f"question {place}{text}"},
        ],
        "later": [f"and then{text}"],
        "answers": {
            name: {"text": [f"{name} says {text}", "more"], "finished": [True, False], "verdict": verdict}
            for name, verdict in answers
        },
    }


def test_a_line_has_its_figures_their_differences_and_what_they_mean() -> None:
    table = comparison_tables(compared("reference", "after DPO"))
    assert table["columns"] == ["reference", "after DPO"]
    [found] = table["tables"]
    refused, words = found["lines"]
    assert (refused["name"], refused["about"]) == ("refused", "10 rows, higher is better")
    before, after = refused["cells"]
    assert before == {"figure": "20.0% [5.7%, 51.0%]", "test": "", "mark": "", "tone": ""}
    assert after["figure"].startswith("90.0% [")
    assert after["test"].startswith("+70.0 points [")
    assert (after["mark"], after["tone"]) == ("▲", "good")
    assert (words["about"], words["cells"][1]["mark"]) == ("3 rows", "≠")
    assert [line["name"] for line in found["details"]] == ["of violence"]


def test_of_three_models_the_last_stands_beside_the_one_before() -> None:
    table = comparison_tables(compared("reference", "after SFT", "after DPO"))
    assert table["columns"][-1] == "after DPO against after SFT"
    refused = table["tables"][0]["lines"][0]
    assert [cell and cell["mark"] for cell in refused["cells"]] == ["", "▲", "", "▼"]


def test_the_page_shows_where_verdicts_changed_first_and_what_was_cut_off() -> None:
    names = ("reference", "after DPO")
    rows = [said(place, "ok", "ok" if place < 4 else "refused", names=names) for place in range(6)]
    words = Page(render_comparison_page(compared(*names), {"xstest": rows})).words
    assert [int(number) for number in re.findall(r"question (\d)", words)] == [4, 5, 0]
    for text in ("after DPO · refused", "and then", "(cut off)", "ifeval: a noterefused", "of violence"):
        assert text in words
    assert "be kind" not in words


HOSTILE = '"><script>alert(1)</script><img src=x onerror=y> \u202e\x1b[2J'


def test_no_text_becomes_markup() -> None:
    names, hostile = ("reference", "after DPO"), ("reference", f"after{HOSTILE}")
    clean = Page(render_comparison_page(compared(*names), {"xstest": [said(0, "a", "b", names=names)]}))
    rows = [said(0, f"a{HOSTILE}", f"b{HOSTILE}", names=hostile, text=HOSTILE)]
    text = render_comparison_page(compared(*hostile, name=HOSTILE), {f"xstest{HOSTILE}": rows})
    page = Page(text)
    assert page.tags == clean.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in clean.attributes]
    assert not {"\u202e", "\x1b"} & set(text)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in (value or ""))
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'",
        policy or "",
    )


def test_a_runs_report_shows_its_comparison_and_names_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    assert "Side by side" not in Page(render_report(tmp_path)).words
    file = tmp_path / "eval" / "comparison.json"
    file.write_text(json.dumps(compared("reference", f"after{HOSTILE}")), encoding="utf-8")
    page = Page(render_report(tmp_path))
    assert "90.0% [" in page.words
    assert not {"script", "img"} & set(page.tags)
    file.write_text('{"columns": [{"name": "a"}], "table": {"x": [{}]}}', encoding="utf-8")
    words = Page(render_report(tmp_path)).words
    assert "eval/comparison.json is no comparison of models" in words
    assert "Side by side" not in words
