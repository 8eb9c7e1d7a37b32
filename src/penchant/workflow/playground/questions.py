"""Questions to begin with, that a run was not trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from penchant.data.formats import FORMATS
from penchant.data.house_style import house_style_file
from penchant.data.rows import limited_rows
from penchant.data.source import iter_pairs
from penchant.errors import PenchantError
from penchant.types import PreferencePair
from penchant.web.playground_talk import Choice, Questions
from penchant.workflow.playground.choices import run_values

HOW_MANY = 3
_LONGEST = 300  # characters; longer ones make no good beginning
_MOST_READ = 200  # rows


def starting_questions(choice: Choice) -> Questions:
    """Return three questions: of the run's test, of its held-out pairs, or else of the packaged test.

    Of those that are short enough and ask for one answer three are drawn, the same for a run each time.
    """
    run = Path(choice.path)
    for texts, source in (
        (_tested(run), "Questions of this run's test, which it was not trained on."),
        (_held_out(run), "Prompts of the pairs that this run was validated on, not trained on."),
        (_packaged(), "Questions of the test that comes with Penchant."),
    ):
        found = _drawn(list(dict.fromkeys(islice(texts, _MOST_READ))), choice.name)
        if found:
            return Questions(found, source)
    return Questions()


def _drawn(texts: Sequence[str], name: str) -> tuple[str, ...]:
    short = [text for text in texts if 0 < len(text.strip()) <= _LONGEST]
    return tuple(sorted(short, key=lambda text: hashlib.sha256(f"{name} {text}".encode()).digest())[:HOW_MANY])


def _tested(run: Path) -> Iterator[str]:
    return _questions_of(run / "samples" / "test.jsonl")


def _packaged() -> Iterator[str]:
    return _questions_of(house_style_file("test_questions"))


def _questions_of(file: Path) -> Iterator[str]:
    """The questions of a file of them; those that cannot be read are passed over, others will do."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a run that is being written
                continue
            if isinstance(row, dict) and isinstance(question := row.get("question"), str):
                yield question


def _held_out(run: Path) -> Iterator[str]:
    held_out = run_values(run).get("train", {}).get("evaluate_data") if (run / "config.yaml").is_file() else None
    if not isinstance(held_out, str):
        return
    path = Path(held_out)
    try:
        rows = limited_rows(path, split="test" if path.is_dir() else None, limit=_MOST_READ)
        for pair in iter_pairs(rows, FORMATS["local"]):
            if isinstance(pair, PreferencePair) and [turn.role for turn in pair.prompt] == ["user"]:
                yield pair.prompt[0].content
    except PenchantError:  # moved since: the run is not worse for it, and the next source is asked
        return
