"""Rows of a single response that is said to be desirable or not, as KTO judges them.

The layouts are those of examples to imitate, with a column `label` (or `kto_tag`) that is true or false.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from penchant.data.columns import RowError, flag
from penchant.data.formats import local
from penchant.data.formats.examples import CONVERSATIONS
from penchant.data.formats.instructions import opened
from penchant.data.formats.layout import Layout
from penchant.data.ledger import Drop
from penchant.data.normalise import Draft, example
from penchant.data.rows import RawRow
from penchant.types import Turn


def _labelled(columns: tuple[str, ...], label: str, read: Callable[[RawRow], tuple[Turn, ...] | Drop]) -> Layout:
    def read_response(row: RawRow) -> Draft | Drop:
        if row.values.get(label) in (None, ""):
            raise RowError(f'column "{label}" is empty')
        turns = read(row)
        if isinstance(turns, Drop):
            return turns
        draft = example(opened(row, turns) if turns else turns)
        return draft if isinstance(draft, Drop) else replace(draft, desirable=flag(row, label))

    return Layout((*columns, label), read_response)


LAYOUTS = (
    *local.LAYOUTS,  # a pair gives two: see `penchant.tokens.unpaired`
    *(_labelled(columns, label, read) for columns, read in CONVERSATIONS for label in ("label", "kto_tag")),
)
