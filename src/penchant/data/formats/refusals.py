"""Data that is no preference data: what it is, why it makes no pairs, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from penchant.data.rows import RawRow
from penchant.errors import DataError

_PAIR_COLUMNS = frozenset(("chosen", "rejected", "chosen_messages", "rejected_messages", "preferred_output"))


@dataclass(frozen=True)
class _Kind:
    what: str
    fix: str


_SINGLE = _Kind(
    "single responses with a label (KTO), not preference pairs: no row says which of two responses is better",
    "Train on them with --set objective.loss=kto, or bring rows with a chosen and a rejected response.",
)
_SFT = _Kind(
    "examples to imitate (SFT), not preference pairs: a row has one response and none to compare it with",
    "Imitate them with `penchant sft`, or bring rows with a chosen and a rejected response.",
)
_PROMPTS = _Kind(
    "questions of an evaluation set, not preference pairs: a row has no two responses of which one is preferred",
    "Evaluate with it; train on rows with a chosen and a rejected response.",
)
_RATED = _Kind(
    "single rated transcripts, not preference pairs: no row says which of two responses is better",
    "Choose one of the subsets that hold pairs.",
)

# The first entry whose columns a row has says what it is.
_KINDS: tuple[tuple[tuple[str, ...], _Kind], ...] = (
    (("messages", "label"), _SINGLE),
    (("conversations", "label"), _SINGLE),
    (("conversations", "kto_tag"), _SINGLE),
    (("prompt", "completion", "label"), _SINGLE),
    (("prompt", "response", "label"), _SINGLE),
    (("transcript", "rating"), _RATED),
    (("transcript", "min_harmlessness_score_transcript"), _RATED),
    (("instruction", "output"), _SFT),
    (("prompt", "completion"), _SFT),
    (("prompt", "response"), _SFT),
    (("question", "response"), _SFT),
    (("messages",), _SFT),
    (("conversations",), _SFT),
    (("prompt", "instruction_id_list"), _PROMPTS),  # IFEval
    (("question_id", "turns"), _PROMPTS),  # MT-Bench
    (("Question", "Best Answer"), _PROMPTS),  # TruthfulQA
    (("goal", "target"), _PROMPTS),  # AdvBench
    (("prompt", "type", "label"), _PROMPTS),  # XSTest
)


def refusal(row: RawRow) -> DataError | None:
    """Return the error that says what kind of data a row is, None when it may be a pair that lacks a column."""
    if _PAIR_COLUMNS & row.values.keys():
        return None
    for columns, kind in _KINDS:
        if all(column in row.values for column in columns):
            return DataError(kind.what, where=row.place, fix=kind.fix)
    return None
