"""The page's part on monitors: what was found, what helps, and nothing of it as markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.html_page import Page

from penchant.reporting.findings import findings_of, generations_of, worst_pairs_of
from penchant.reporting.report import render_report

FINDING = {
    "name": "displacement",
    "step": 40,
    "summary": "chosen responses have become less probable: 90% <b>of</b> the last 80 pairs",
    "remedies": ["add a likelihood term (objective.nll_weight=0.1 to 1)", "raise objective.beta"],
    "figures": {"share": 0.9},
}
WORST = {
    "id": "row-7",
    "step": 12,
    "chosen_log_ratio": -12.5,
    "rejected_log_ratio": -30.25,
    "chosen_tokens": 40,
    "rejected_tokens": 12,
    "prompt": "why <script>alert(1)</script>?",
    "chosen": "Because.",
    "rejected": "No \u202e idea.",
}
ANSWERED = {
    "step": 50,
    "kl_per_token": 0.25,
    "kl_per_token_interval": [0.2, 0.31],
    "mean_tokens": 31.0,
    "repetition": 0.04,
    "unfinished": 0.5,
}


def run_with(folder: Path, training: dict[str, Any], generations: list[dict[str, Any]]) -> Path:
    (folder / "eval").mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.69}\n', encoding="utf-8")
    (folder / "eval" / "training.json").write_text(json.dumps(training), encoding="utf-8")
    lines = "".join(json.dumps(line) + "\n" for line in generations)
    (folder / "generations.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_a_finding_stands_on_the_page_with_what_helps(tmp_path: Path) -> None:
    page = render_report(run_with(tmp_path, {"findings": [FINDING], "worst_pairs": [WORST]}, [ANSWERED]))
    text = Page(page).words
    for words in (
        "Chosen responses became less probable",
        "90% <b>of</b> the last 80 pairs",
        "objective.nll_weight",
        "row-7",
        "-12.5",
        "why <script>alert(1)</script>?",
        "0.2 to 0.31",
        "50.0%",
    ):
        assert words in text, words
    assert "Nothing to report" not in text
    assert "\u202e" not in text
    assert "<script>" not in page


def test_a_run_without_findings_says_so(tmp_path: Path) -> None:
    text = Page(render_report(run_with(tmp_path, {"findings": [], "worst_pairs": []}, []))).words
    assert "Nothing to report" in text
    assert "answers on the way" not in text
    assert "was not watched" not in text


def test_a_run_that_was_not_watched_says_so(tmp_path: Path) -> None:
    text = Page(render_report(run_with(tmp_path, {}, []))).words
    assert "This run was not watched" in text
    assert "Nothing to report" not in text


def test_what_someone_edited_is_no_finding() -> None:
    assert findings_of({"findings": "none"}) is None
    assert findings_of({"findings": [3, {"name": "new one"}]}) == [
        {"title": "new one", "summary": "", "remedies": []}
    ]
    assert worst_pairs_of({"worst_pairs": [None, {"chosen_log_ratio": "x"}]})[0]["chosen_fell"] == "not measured"
    assert generations_of([{"step": 3}]) == [
        {
            "step": "3",
            "kl": "not measured",
            "interval": "",
            "tokens": "not measured",
            "repetition": "not measured",
            "unfinished": "not measured",
        }
    ]
