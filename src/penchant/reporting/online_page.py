"""The page of a loop of rounds: rates with intervals, figures of each round, fates of prompts, some answers.

Whatever the page prints comes from models and prompts, so it passes the gate of every page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.data.atomic import write_text
from penchant.reporting.charts import Bar, fraction_bars
from penchant.reporting.figures import percent, plain_number
from penchant.reporting.page import page_environment

PAGE_FILE = "report.html"
_SHOWN_ANSWERS = 12
_COLUMNS: tuple[tuple[str, str], ...] = (
    ("p_against_start", "p against the start"),
    ("p_against_previous", "p against the round before"),
    ("tokens", "tokens generated"),
    ("tokens_in_all", "tokens so far"),
    ("prompts", "prompts"),
    ("pairs", "pairs"),
    ("replayed", "replayed pairs"),
    ("chosen_longer", "chosen longer (share)"),
    ("steps", "steps"),
    ("mean_words", "words a held-out answer"),
    ("broken", "broken answers (share)"),
    ("kl_to_reference", "KL to the start, nats a token"),
)


def write_online_page(out: Path, state: Mapping[str, Any]) -> Path:
    """Write `report.html` into a loop's folder and return its path.

    Args:
        out: The loop's folder; the held-out answers are read from its rounds.
        state: What `online.json` holds.
    """
    rounds: Sequence[Mapping[str, Any]] = state["rounds"]
    passes = rounds[0]["passes_at"] is not None
    what = "Held-out prompts whose answer passes" if passes else "Held-out answers better than the start's"
    bars = [Bar(_name(row), row["rate"], tuple(row["rate_interval"])) for row in rounds if row["rate"] is not None]
    page = page_environment().get_template("online.html.j2")
    text = page.render(
        judge=state["judge"],
        held_out=rounds[0]["held_out"],
        chart=fraction_bars("rounds", what, bars) if bars else None,
        heads=[_name(row) for row in rounds],
        figures=[(label, *(_cell(row.get(key)) for row in rounds)) for key, label in _COLUMNS],
        fates=[(name, *cells) for name, cells in _fates(rounds)],
        answers=_answers(out, len(rounds)),
    )
    write_text(out / PAGE_FILE, text)
    return out / PAGE_FILE


def _name(row: Mapping[str, Any]) -> str:
    return f"round {row['round']}" if row["round"] else "start"


def _cell(value: float | None) -> str:
    return "" if value is None else plain_number(value)


def _fates(rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """The share of each fate among a round's prompts."""
    names = sorted({name for row in rounds[1:] for name in row["fates"]})
    return [
        (name, ["", *(percent(row["fates"].get(name, 0) / row["prompts"]) for row in rounds[1:])])
        for name in names
    ]


def _answers(out: Path, count: int) -> list[tuple[str, list[tuple[str, str]]]]:
    """The first held-out prompts with the answer of each round."""
    texts: dict[str, list[tuple[str, str]]] = {}
    for number in range(count):
        file = out / f"round-{number}" / "answers.jsonl"
        for line in file.read_text(encoding="utf-8").split("\n")[:_SHOWN_ANSWERS]:
            if line:
                row = json.loads(line)
                name = f"round {number}" if number else "start"
                texts.setdefault(row["prompt"], []).append((name, row["text"]))
    return list(texts.items())
