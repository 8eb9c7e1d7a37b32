"""The rows of a trainer as ids, before anything is trained: how many there are, and what TRL would have kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penchant.config import DataConfig
from penchant.integrations.trl.rows import PreferenceRows
from penchant.library.rows import as_file
from penchant.tokens.chat import ChatFormat
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import read_pairs, tokenize

_TRL_DROPS_TOO = "prompt_too_long"


@dataclass(frozen=True)
class TrainingIds:
    """What the rows came to.

    Attributes:
        tokens: Tokens of both sides of each pair that is trained on, prompts included, by id.
        missing: Rows that TRL would train on and Penchant does not, by reason.
    """

    tokens: Mapping[str, int]
    missing: Mapping[str, int]


def training_ids(rows: PreferenceRows, chat: ChatFormat, config: DataConfig, reporter: Reporter) -> TrainingIds:
    """Return what rows come to.

    Raises:
        DataError: The rows cannot be read as pairs, or none is left.
        ModelError: The tokenizer has no form for them.
    """
    with as_file(rows) as file:
        pairs, ledger = read_pairs(file, split=None)
        ids = tokenize(pairs, ledger, chat, config, reporter=reporter)
    tokens = {pair.id: 2 * len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids) for pair in ids}
    missing: dict[str, int] = {}
    for entry in ledger:
        if entry.fate == "dropped" and entry.reason != _TRL_DROPS_TOO:
            missing[entry.reason] = missing.get(entry.reason, 0) + 1
    return TrainingIds(tokens, missing)


def describe_missing(found: TrainingIds) -> str:
    """Return one line that says which rows make a run another than TRL's, "" when none does."""
    if not found.missing:
        return ""
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(found.missing.items()))
    return (
        f"{sum(found.missing.values())} rows that TRL would train on are left out ({reasons}), so steps and "
        "losses are not TRL's on this data"
    )
