"""What results show of themselves in a notebook: their figures, and hostile text as nothing but text."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from tests.html_page import Page

from penchant.config import build_config
from penchant.data.ledger import Ledger
from penchant.evaluation.measures import Measure, compare_measures
from penchant.library.evaluate import Evaluation
from penchant.library.score import Scores
from penchant.library.train import Trained
from penchant.objective.logps import PairLogps
from penchant.reporting.inspect_page import InspectResult, ShownPair
from penchant.tokens.show import Piece
from penchant.types import LedgerEntry, PreferencePair, Turn

HOSTILE = "</td></script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e{{ 7 * 7 }}'\""


def scores(count: int, text: str = "") -> Scores:
    counted = torch.ones(count)
    logps = PairLogps(-torch.arange(count) - 2.5, -torch.arange(count) - 4.75, counted, counted)
    ledger = Ledger(LedgerEntry("f", line, f"row-{line}{text}", "kept") for line in range(count))
    ledger.append(LedgerEntry("f", count, "other", "dropped", "empty_prompt"))
    return Scores([f"row-{line}{text}" for line in range(count)], logps, ledger)


def trained(folder: Path, text: str = "") -> Trained:
    lines = [{"step": step, "loss": 0.7 - step / 100, "rewards/margins": step / 10} for step in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    facts: dict[str, Any] = {"train_pairs": 64, "trained_parameters": 1234, "parameters": 56789}
    facts["findings"] = [{"name": f"displacement{text}", "summary": f"it fell{text}"}]
    return Trained(folder, build_config(None), 8, 64, facts)


def evaluation(text: str = "") -> Evaluation:
    sides = [[1.0] * 2 + [0.0] * 8, [1.0] * 9 + [0.0]]
    columns = [
        [Measure(f"right{text}", {str(at): v for at, v in enumerate(side)}, better="higher")] for side in sides
    ]
    names = [f"start{text}", f"end{text}"]
    table = {
        "columns": [{"name": name, "model": name, "run": None} for name in names],
        "suites": [],
        "table": {f"preference{text}": compare_measures(columns)},
    }
    return Evaluation({}, table, Path(f"runs/a{text}"))


def inspected(text: str = "") -> InspectResult:
    turn, words = Turn("user", f"ask{text}"), (f"good{text}", f"bad{text}")
    pieces = (
        Piece(f"ask{text}\n", 0, "prompt", scored=False, boundary=True),
        Piece(f"good{text}\n", 1, "chosen", scored=True, boundary=True),
        Piece(f"bad{text}\n", 2, "rejected", scored=True, boundary=True),
    )
    shown = ShownPair("train", PreferencePair(f"one{text}", (turn,), *words, source="f", line=1), pieces)
    return InspectResult(Path("f"), {"train": 1}, {}, {}, [], [], [shown], shown, tokenizer=f"tiny{text}")


def test_scores_show_the_first_pairs_and_every_row_s_fate() -> None:
    page = Page(scores(7)._repr_html_())
    expected = (
        "row-4 -6.5 -8.75 2.25",
        "The first 5 of 7 pairs. Rows: 7 kept, 0 cut, 1 dropped (empty_prompt: 1).",
    )
    text = " ".join(re.sub(r"<[^>]+>", " ", scores(7)._repr_html_()).split())
    assert [part for part in expected if part not in text] == []
    assert page.tags.count("tr") == 1 + 5
    assert "The first" not in scores(5)._repr_html_()


def test_a_training_shows_its_curves_as_whole_pictures(tmp_path: Path) -> None:
    page = Page(trained(tmp_path)._repr_html_())
    assert "8 steps on 64 pairs; 1,234 of 56,789 parameters trained." in page.words
    assert "displacement it fell" in page.words
    pictures = [value for name, value in page.attributes if name == "src"]
    assert len(pictures) == 2
    for picture in pictures:
        assert picture is not None
        kind, data = picture.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(base64.b64decode(data))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.find("{http://www.w3.org/2000/svg}style") is not None
    said = [value for name, value in page.attributes if name == "alt"]
    assert said[0] == "Loss: loss from 0.69 to 0.62"


def test_an_evaluation_shows_intervals_and_tests() -> None:
    text = " ".join(re.sub(r"<[^>]+>", " ", evaluation()._repr_html_()).split())
    assert re.search(
        r"right 10 rows, higher is better 20\.0% \[.*\] 90\.0% \[.*\] \+70\.0 points \[.*\].* ▲", text
    )
    assert "The report is runs/a/report.html ." in text


def test_a_pair_shows_which_tokens_are_scored() -> None:
    html = inspected()._repr_html_()
    assert re.findall(r"<mark>(.*?)</mark>", html) == ["marked", "good↵", "bad↵"]
    assert "ask↵<small>" in html
    assert "Lint found nothing." in html


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    pieces = (
        (scores(2)._repr_html_(), scores(2, HOSTILE)._repr_html_()),
        (trained(tmp_path)._repr_html_(), trained(tmp_path, HOSTILE)._repr_html_()),
        (evaluation()._repr_html_(), evaluation(HOSTILE)._repr_html_()),
        (inspected()._repr_html_(), inspected(HOSTILE)._repr_html_()),
    )
    for harmless, hostile in pieces:
        page = Page(hostile)
        assert page.tags == Page(harmless).tags
        assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("style", "class")]
        assert "<script>alert(1)</script>" in page.text
        assert "⟨U+001B⟩[31m⟨U+202E⟩{{ 7 * 7 }}" in page.text
