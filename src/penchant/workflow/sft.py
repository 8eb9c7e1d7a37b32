"""What a run trains on: pairs of a preference, or for the likelihood objective (SFT) examples to imitate.

An example is a pair without a rejected response, so it goes the way of pairs from here on: the same masks,
truncation, ledger, engine, checkpoints and run directory.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from penchant.config import Config, DataConfig
from penchant.data.exclusions import leave_out
from penchant.data.formats import EXAMPLES, LABELLED
from penchant.data.ledger import DropReason, Ledger
from penchant.data.source import load_pairs
from penchant.errors import UsageError
from penchant.types import LedgerEntry, PreferencePair, Turn
from penchant.workflow.setup import read_pairs


def training_pairs(
    config: Config, data: Path, *, split: str = "train", limit: int | None = None
) -> tuple[list[PreferencePair], Ledger]:
    """Return what a run trains on, and the rows' ledger: pairs, for sft examples, for KTO labelled responses too.

    Args:
        config: Its loss decides, and for examples which turns are scored.
        data: A file, or a folder with the split.
        split: Which file of a folder.
        limit: Only the first rows.

    Raises:
        DataError: See `penchant.data.source.load_pairs` and `penchant.data.exclusions.leave_out`.
    """
    pairs, ledger = _read(config, data, split, limit)
    if config.data.exclude is None:
        return pairs, ledger
    every = split == "train" and limit is None
    return leave_out(pairs, ledger, Path(config.data.exclude), every=every), ledger


def _read(config: Config, data: Path, split: str, limit: int | None) -> tuple[list[PreferencePair], Ledger]:
    if config.objective.loss == "sft":
        return read_examples(data, config.data, split=split, limit=limit)
    if config.objective.loss == "kto":
        return load_pairs(data, split=split if data.is_dir() else None, limit=limit, data_format=LABELLED)
    return read_pairs(data, split=split, limit=limit)


def read_examples(
    path: Path, config: DataConfig, *, split: str | None, limit: int | None = None
) -> tuple[list[PreferencePair], Ledger]:
    """Return the examples of a chat data set, or of the chosen side of preference pairs, and the rows' ledger.

    With `data.loss_turns: all_assistant` what follows the first question is no longer prompt, so every turn of the
    assistant is scored; a conversation in which one of them says nothing is dropped as `empty_turn`.

    Args:
        path: A file, or a folder.
        config: Which turns are scored.
        split: Which file of a folder.
        limit: Only the first rows.

    Raises:
        DataError: See `penchant.data.source.load_pairs`.
    """
    found, ledger = load_pairs(path, split=split if path.is_dir() else None, limit=limit, data_format=EXAMPLES)
    if config.loss_turns == "last":
        return found, ledger
    examples: list[PreferencePair] = []
    for pair in map(every_turn_scored, found):
        place = next((at for at, turn in enumerate(pair.chosen_lead) if _says_nothing(turn)), None)
        if place is None:
            examples.append(pair)
            continue
        evidence = f"turn {len(pair.prompt) + place + 1} is empty"
        reason = DropReason.EMPTY_TURN.value
        ledger.revise(LedgerEntry(pair.source, pair.line, pair.id, "dropped", reason, evidence))
    return examples, ledger


def every_turn_scored(pair: PreferencePair) -> PreferencePair:
    """Return an example whose prompt ends before the assistant's first answer; what follows is its chosen lead.

    A turn with which the assistant opens a conversation answers nothing, and stays in the prompt.
    """
    turns = (*pair.prompt, *pair.chosen_lead)
    opening = len(list(takewhile(lambda turn: turn.role == "assistant", turns)))
    first = next((at for at in range(opening, len(turns)) if turns[at].role == "assistant"), len(turns))
    return replace(pair, prompt=turns[:first], chosen_lead=turns[first:])


def require_sft(config: Config, recipe: str) -> None:
    """Check that a recipe imitates.

    Raises:
        UsageError: It has a loss of pairs.
    """
    if config.objective.loss != "sft":
        raise UsageError(
            f'`penchant sft` minimises the loss "sft", and this recipe has "{config.objective.loss}"',
            where=recipe,
            fix=f"Name a recipe of that loss, such as smollm2-sft, or run `penchant train {recipe}`.",
        )


def _says_nothing(turn: Turn) -> bool:
    return turn.role == "assistant" and not turn.content.strip() and not turn.tool_calls
