"""What the list of rows shows: a page of a selection, its filters with counts, and where it goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penchant.types import PreferencePair
from penchant.web.data_index import PASSES, facts_of, text_of
from penchant.web.data_search import Term, first_hit, terms_of
from penchant.web.data_selection import FACETS, PAGE_ROWS, Selected, Selection

_BEFORE, _AFTER = 60, 130  # characters of an excerpt around what was found
TITLES = {
    "fate": "Fate",
    "reason": "Reason",
    "split": "Split",
    "source": "Source",
    "flag": "Lint finding",
    "rule": "Strength rule that objects",
}


@dataclass(frozen=True)
class Excerpt:
    """Some of a row's text.

    Attributes:
        before: What stands before what was found, or all of it.
        hit: What was found, "" where nothing was searched.
        after: What stands behind.
        field: Where it is, when that is not the prompt.
    """

    before: str
    hit: str = ""
    after: str = ""
    field: str = ""


@dataclass(frozen=True)
class ListedRow:
    """A line of the list; `label` is its line of the index."""

    label: Mapping[str, Any]
    excerpt: Excerpt
    flags: tuple[str, ...]
    out: bool


@dataclass(frozen=True)
class Facet:
    """A filter.

    Attributes:
        name: In the address.
        title: On the page.
        options: Value, what it is called, and how many rows it would leave.
        chosen: The value that is set, "" without.
    """

    name: str
    title: str
    options: tuple[tuple[str, str, int], ...]
    chosen: str


@dataclass(frozen=True)
class RowList:
    """A page of the list.

    Attributes:
        rows: Its rows.
        total: Rows that came in.
        count: Rows of the selection.
        pages: Pages of it, one at least.
        fates: Rows of each fate, of all that came in.
        facets: The filters that have something to choose from.
        by_hand: Rows left out by hand.
        linted: Whether lint was run.
        nothing_to_find: Whether something was typed in which there is no word.
    """

    rows: tuple[ListedRow, ...]
    total: int
    count: int
    pages: int
    fates: Mapping[str, int]
    facets: tuple[Facet, ...]
    by_hand: int
    linted: bool
    nothing_to_find: bool


def row_list(connection: sqlite3.Connection, selection: Selection, by_hand: Sequence[int]) -> RowList:
    """Return a page of the rows that are asked for; a page behind the last one is the last."""
    selected = Selected(connection, selection, by_hand)
    count = selected.count()
    pages = max(1, -(-count // PAGE_ROWS))
    page = min(selection.page, pages)
    numbers = selected.numbers(PAGE_ROWS, PAGE_ROWS * (page - 1))
    facts = facts_of(connection)
    terms = terms_of(selection.q)
    return RowList(
        rows=tuple(_rows(connection, numbers, terms, selection.within, frozenset(by_hand))),
        total=int(facts["rows"]),
        count=count,
        pages=pages,
        fates=_fates(connection),
        facets=_facets(selected, selection),
        by_hand=len(by_hand),
        linted=facts["linted"] == "1",
        nothing_to_find=bool(selection.q) and not terms,
    )


def _fates(connection: sqlite3.Connection) -> dict[str, int]:
    held = "SELECT kind, count(*) AS held FROM rows GROUP BY kind"
    sql = f"SELECT fate, sum(held) FROM ({held}) JOIN kinds USING (kind) GROUP BY fate"
    found = dict(tuple(row) for row in connection.execute(sql))
    return {fate: found.get(fate, 0) for fate in ("kept", "cut", "dropped")}


def _facets(selected: Selected, selection: Selection) -> tuple[Facet, ...]:
    facets = []
    for name in (*FACETS, "flag"):
        counts = selected.flags() if name == "flag" else selected.counts(name)
        chosen = getattr(selection, name)
        if chosen and chosen not in counts:
            counts[chosen] = 0
        if len(counts) > 1 or chosen or name in ("flag", "reason"):
            options = tuple((value, called(value), count) for value, count in counts.items())
            if options:
                facets.append(Facet(name, TITLES[name], options, chosen))
    return tuple(facets)


def called(value: str) -> str:
    """Return a value of a filter in words: names of reasons, rules and checks are written with underscores."""
    return "none of the quick ones" if value == PASSES else value.replace("_", " ")


def _rows(
    connection: sqlite3.Connection, numbers: Sequence[int], terms: Sequence[Term], within: str, out: frozenset[int]
) -> list[ListedRow]:
    marks = ",".join(map(str, numbers))  # whole numbers of ours
    sql = f"SELECT * FROM labels JOIN rows USING (number) JOIN kinds USING (kind) WHERE number IN ({marks})"
    labels = {row["number"]: dict(row) for row in connection.execute(sql)}
    flags: dict[int, list[str]] = {}
    for number, name in connection.execute(f"SELECT number, name FROM flags WHERE number IN ({marks})"):
        flags.setdefault(number, []).append(name)
    return [
        ListedRow(
            labels[number],
            _excerpt(connection, number, labels[number]["beginning"], terms, within),
            tuple(flags.get(number, ())),
            number in out,
        )
        for number in numbers
    ]


def _excerpt(
    connection: sqlite3.Connection, number: int, beginning: str, terms: Sequence[Term], within: str
) -> Excerpt:
    pair = text_of(connection, number).pair if terms else None
    if pair is not None:
        for field, text in _texts(pair):
            if within in ("", field) and (found := first_hit(text, terms)) is not None:
                return _around(text, *found, field)
    return Excerpt(beginning)


def _around(text: str, start: int, end: int, field: str) -> Excerpt:
    """What was found with whole words on both sides of it."""
    before, after = text[max(0, start - _BEFORE) : start], text[end : end + _AFTER]
    if start > _BEFORE:
        before = "…" + (before.partition(" ")[2] or before)
    if end + _AFTER < len(text):
        after = (after.rpartition(" ")[0] or after) + "…"
    return Excerpt(before, text[start:end], after, field)


def _texts(pair: PreferencePair) -> list[tuple[str, str]]:
    prompt = "\n".join(turn.content for turn in pair.prompt)
    chosen = "\n".join([*(turn.content for turn in pair.chosen_lead), pair.chosen])
    rejected = "\n".join([*(turn.content for turn in pair.rejected_lead), pair.rejected])
    return [("prompt", prompt), ("chosen", chosen), ("rejected", rejected)]
