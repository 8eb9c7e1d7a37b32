"""Why a row is where it is: what ledger, strength filter and lint say of it, with numbers and thresholds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from penchant.config import StrengthConfig
from penchant.data.ledger import Ledger
from penchant.data.lint import CHECKS
from penchant.data.strength import RULES, judge_all
from penchant.data.tagging import Tagger, load_tagger
from penchant.errors import PenchantError
from penchant.types import PreferencePair
from penchant.web.data_index import quick_strength
from penchant.web.data_sources import DataSource, thresholds_of

MEANINGS = {
    "empty_prompt": "Its prompt says nothing.",
    "empty_response": "One of its responses says nothing.",
    "empty_turn": "A turn in the middle says nothing.",
    "identical_responses": "Both responses are the same text, so nothing is preferred.",
    "prompts_differ": "The two sides do not answer one prompt.",
    "response_not_one_turn": "A side does not end with one answer of the assistant.",
    "response_calls_tool": "A side ends with a tool call, not with an answer.",
    "role_order": "The turns are in an order that no conversation has.",
    "hh_malformed": "The transcript is not one of Human and Assistant turns.",
    "tied_scores": "The data scores both responses alike, so nothing is preferred.",
    "too_few_scored": "Fewer than two of its responses have a score.",
    "undesirable": "It is labelled as a bad answer, and there is nothing to imitate in it.",
    "duplicate_pair": "An earlier row is the same.",
    "broken_row": "The file holds no row that can be read there.",
    "id_repeated": "An earlier row has the same id.",
    "prompt_in_test": "Its prompt is also in the test split, so training on it would leak.",
    "not_drawn": "The limit, or the shares of a mix, left it out.",
    "excluded_by_hand": "Somebody left it out by hand.",
    "prompt_cut": "Its prompt was too long: the oldest part was cut away.",
    "response_cut": "Its responses were too long: their ends were cut away.",
    "prompt_and_response_cut": "It was too long: the prompt's oldest part and the responses' ends were cut away.",
    "special_token_in_text": "It holds a control token as text, which would forge a turn.",
    "template_refuses": "The model's chat template has no form for this conversation.",
    "template_rewrites_history": "The template rewrites earlier turns, so the border of the response is unknown.",
    "identical_tokens": "Both responses are the same tokens.",
    "identical_after_cut": "Cut to fit, both responses are the same tokens.",
    "nothing_scored_after_cut": "Cut to fit, nothing that is scored is left.",
    "prompt_too_long": "Its prompt leaves no room for the responses.",
    "too_long": "It is longer than what fits, and such rows are dropped.",
    "no_form": "The conversation has no form in this tokenizer.",
}
"""What each reason of a ledger means, in a sentence."""


@dataclass(frozen=True)
class RuleLine:
    """What one rule of the strength filter says.

    Attributes:
        rule: Its name.
        measured: What was compared, in numbers.
        threshold: With what.
        keep: Whether it lets the row through.
    """

    rule: str
    measured: str
    threshold: str
    keep: bool


@dataclass(frozen=True)
class RuleTable:
    """What all rules that are on say.

    Attributes:
        lines: In the order in which they run.
        filtered: Whether the data was filtered with these thresholds; otherwise they are the defaults, judged now.
    """

    lines: tuple[RuleLine, ...]
    filtered: bool

    @property
    def first_objection(self) -> str:
        """The rule that drops the row, "" when none does."""
        return next((line.rule for line in self.lines if not line.keep), "")


@dataclass(frozen=True)
class FlagLine:
    """What one check of lint says.

    Attributes:
        check: Its name.
        severity: error or warning.
        what: What a hit is.
        advice: What to do about it.
        other: Number of the row that it was compared with, None where there is none.
        other_id: That row's id.
        towards: Whether the other row was found to be like this one, rather than this like the other.
    """

    check: str
    severity: str
    what: str
    advice: str
    other: int | None = None
    other_id: str = ""
    towards: bool = False


def meaning(reason: str) -> str:
    """Return what a ledger's reason means, "" for one that is unknown here."""
    if reason in RULES:
        return f"The strong-preference filter dropped it: its rule {reason} objects."
    return MEANINGS.get(reason, "")


def rule_table(pair: PreferencePair, source: DataSource) -> RuleTable | None:
    """Return what the strength filter says of a pair; None for a single response, which it does not judge."""
    if not pair.rejected:
        return None
    used = thresholds_of(source)
    config = used or StrengthConfig()  # type: ignore[call-arg]  # pydantic fills it in
    try:
        verdicts = judge_all(pair, config, tagger(config.tagger))
    except PenchantError:  # the tagger's own data is not on this machine
        verdicts = judge_all(pair, quick_strength(config), Tagger("none", "", lambda _: 0))
    lines = []
    for verdict in verdicts:
        measured, _, threshold = verdict.evidence.partition(";")
        lines.append(RuleLine(verdict.rule, measured.strip(), threshold.strip(), verdict.keep))
    return RuleTable(tuple(lines), used is not None)


@cache
def tagger(name: str) -> Tagger:
    """Return the tagger of a name; it takes a second the first time.

    Raises:
        PenchantError: It cannot be had.
    """
    return load_tagger(name)


def flag_lines(connection: sqlite3.Connection, number: int) -> list[FlagLine]:
    """Return what lint says of a row, and which other rows it found to be like it; errors first."""
    own = connection.execute(
        "SELECT name, other, id FROM flags LEFT JOIN labels ON labels.number = other WHERE flags.number = ?",
        (number,),
    )
    found = list(_flag_lines(own, towards=False))
    known = {(line.check, line.other) for line in found}
    toward = connection.execute(
        "SELECT name, labels.number, id FROM flags JOIN labels ON labels.number = flags.number WHERE other = ? "
        "LIMIT 20",
        (number,),
    )
    found += [line for line in _flag_lines(toward, towards=True) if (line.check, line.other) not in known]
    return sorted(found, key=lambda line: (line.towards, line.severity))


def _flag_lines(rows: sqlite3.Cursor, *, towards: bool) -> Iterator[FlagLine]:
    for name, other, other_id in rows:
        check = CHECKS[name]
        yield FlagLine(name, check.severity, check.what, check.advice, other, other_id or "", towards)


def prepared_entry(source: DataSource, pair_id: str) -> tuple[str, str, str] | None:
    """Return fate, reason and evidence of a run's row when its data was prepared, None where it was not."""
    data = source.data_path()
    if source.kind != "run" or data is None:
        return None
    file = data / "ledger.parquet"
    try:
        return _entries(file, file.stat().st_mtime_ns).get(pair_id)
    except (OSError, PenchantError):
        return None


@lru_cache(maxsize=2)
def _entries(file: Path, _changed: int) -> dict[str, tuple[str, str, str]]:
    return {entry.id: (entry.fate, entry.reason, entry.evidence) for entry in Ledger.read(file)}
