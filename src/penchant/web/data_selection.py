"""A selection of rows as an address says it, and the same as SQL. Values are bound, never written into it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from penchant.errors import UsageError, did_you_mean
from penchant.web.data_index import SORTS
from penchant.web.data_search import FIELDS, match_expression, terms_of

PAGE_ROWS = 50
FACETS = ("fate", "reason", "split", "source", "rule")
_RANGES = {
    "gap_from": "gap >= ?",
    "gap_to": "gap <= ?",
    "unlike_from": "difference >= ?",
    "unlike_to": "difference <= ?",
}


@dataclass(frozen=True)
class Selection:
    """Which rows, in which order, which page of them.

    Attributes:
        q: What was typed into the search.
        within: The field that is searched, "" for all.
        fate: Only rows of this fate; likewise `reason`, `split`, `source`; `flag` of lint; and `rule`, the first
            quick strength rule that objects. "" takes all.
        gap_from: Words by which chosen is longer than rejected, at least; below zero where it is shorter.
        gap_to: At most.
        unlike_from: Share of words that the responses do not share, from 0 to 1, at least.
        unlike_to: At most.
        out: "1" for rows left out by hand alone.
        sort: A name of `SORTS`.
        page: From 1.
        tokens: "1" shows the tokens on a row's page.
    """

    q: str = ""
    within: str = ""
    fate: str = ""
    reason: str = ""
    split: str = ""
    source: str = ""
    flag: str = ""
    rule: str = ""
    gap_from: int | None = None
    gap_to: int | None = None
    unlike_from: float | None = None
    unlike_to: float | None = None
    out: str = ""
    sort: str = ""
    page: int = 1
    tokens: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Selection:
        """Return what an address asks for; names that it does not know are others'.

        Raises:
            UsageError: A value is none of those that can be.
        """
        given = {one.name: query[one.name].strip() for one in fields(cls) if query.get(one.name, "").strip()}
        values: dict[str, Any] = dict(given)
        for name in _RANGES.keys() & given.keys():
            values[name] = _number(name, given[name])
        if "page" in given:
            values["page"] = max(1, int(_number("page", given["page"])))
        found = cls(**values)
        for name, known in (("sort", SORTS), ("within", ("", *FIELDS)), ("out", ("", "1")), ("tokens", ("", "1"))):
            if getattr(found, name) not in known:
                wrong = getattr(found, name)
                raise UsageError(
                    f'{name} cannot be "{wrong}".{did_you_mean(wrong, [one for one in known if one])}'
                )
        terms_of(found.q)
        return found

    def query(self, **changes: Any) -> str:
        """Return the address's query with changes, "" when nothing is asked for; it begins at the first page."""
        changed = replace(self, **({"page": 1} | changes))
        plain = Selection()
        told = {
            one.name: getattr(changed, one.name)
            for one in fields(self)
            if getattr(changed, one.name) != getattr(plain, one.name)
        }
        return f"?{urlencode(told, errors='replace')}" if told else ""

    @property
    def narrowed(self) -> bool:
        """Whether some rows may be left out."""
        return replace(self, sort="", page=1, tokens="", within="") != Selection()


class Around(NamedTuple):
    """Where a row stands in a selection.

    Attributes:
        place: From 1; None where it is not in it.
        before: The number of the row before it, None for the first.
        after: Of the one behind it, None for the last.
    """

    place: int | None
    before: int | None
    after: int | None


class Selected:
    """The rows of a selection in an index.

    Fate, reason, split, source and rule together are a row's kind. There are few kinds, so counting them counts
    every facet at once.

    Args:
        connection: Of the index.
        selection: What is asked for.
        by_hand: Numbers of the rows that were left out by hand.
    """

    def __init__(self, connection: sqlite3.Connection, selection: Selection, by_hand: Sequence[int] = ()) -> None:
        self._connection, self._selection = connection, selection
        self._key = SORTS[selection.sort][1]
        self._kinds = {row[0]: dict(row) for row in connection.execute("SELECT * FROM kinds")}
        self._tables = "rows"
        if terms := terms_of(selection.q):
            connection.execute("CREATE TEMP TABLE hits(number INTEGER PRIMARY KEY)")
            connection.execute(
                "INSERT INTO hits SELECT rowid FROM words WHERE words MATCH ?",
                (match_expression(terms, selection.within),),
            )
            self._tables = "hits CROSS JOIN rows USING (number)"  # in this order
        if selection.out:
            connection.execute("CREATE TEMP TABLE by_hand(number INTEGER PRIMARY KEY)")
            connection.executemany("INSERT INTO by_hand VALUES (?)", ((one,) for one in by_hand))
        self._by_kind = self._counted_kinds()

    def count(self) -> int:
        """Return how many rows there are."""
        return sum(self._by_kind.get(kind, 0) for kind in self._wanted_kinds())

    def numbers(self, limit: int = -1, offset: int = 0) -> list[int]:
        """Return the rows' numbers in order; a limit of -1 takes all."""
        clauses, bound = self._conditions()
        clauses += self._of_kinds()
        order = f" ORDER BY {self._key}, number LIMIT ? OFFSET ?"
        sql = f"SELECT number FROM {self._tables}{_where(clauses)}{order}"
        return [row[0] for row in self._connection.execute(sql, (*bound, limit, offset))]

    def around(self, number: int) -> Around:
        """Return where a row stands in the selection, and its neighbours there."""
        clauses, bound = self._conditions()
        clauses += self._of_kinds()
        mine = f"(SELECT {self._key} FROM rows WHERE number = ?), ?"
        order = f"{self._key}, number"

        def found(what: str, comparison: str, rest: str = "") -> Any:
            where = _where([*clauses, f"({order}) {comparison} ({mine})"])
            values = (*bound, number, number)
            return self._connection.execute(f"SELECT {what} FROM {self._tables}{where}{rest}", values).fetchone()

        if found("number", "=") is None:
            return Around(None, None, None)
        before = found("number", "<", f" ORDER BY {self._key} DESC, number DESC LIMIT 1")
        after = found("number", ">", f" ORDER BY {order} LIMIT 1")
        return Around(found("count(*)", "<=")[0], before and before[0], after and after[0])

    def counts(self, facet: str) -> dict[str, int]:
        """Return how many rows each value of a facet would leave, were nothing else changed; the most first."""
        found: Counter[str] = Counter()
        for kind in self._wanted_kinds(but=facet):
            found[self._kinds[kind][facet]] += self._by_kind.get(kind, 0)
        return _most_first({value: count for value, count in found.items() if value and count})

    def flags(self) -> dict[str, int]:
        """Return the same for what lint found."""
        clauses, bound = self._conditions(flag=False)
        clauses += self._of_kinds()
        tables = self._tables if clauses or self._tables != "rows" else ""
        joined = f"{tables} CROSS JOIN flags USING (number)" if tables else "flags"
        sql = f"SELECT name, count(*) FROM {joined}{_where(clauses)} GROUP BY name"
        return _most_first(dict(tuple(row) for row in self._connection.execute(sql, bound)))

    def _counted_kinds(self) -> dict[int, int]:
        clauses, bound = self._conditions()
        sql = f"SELECT kind, count(*) FROM {self._tables}{_where(clauses)} GROUP BY kind"
        return dict(tuple(row) for row in self._connection.execute(sql, bound))

    def _wanted_kinds(self, *, but: str = "") -> list[int]:
        asked = {name: value for name in FACETS if name != but and (value := getattr(self._selection, name))}
        return [
            kind for kind, of in self._kinds.items() if all(of[name] == value for name, value in asked.items())
        ]

    def _of_kinds(self) -> list[str]:
        if not any(getattr(self._selection, name) for name in FACETS):
            return []
        return [f"kind IN ({','.join(map(str, self._wanted_kinds()))})"]  # whole numbers of ours

    def _conditions(self, *, flag: bool = True) -> tuple[list[str], list[Any]]:
        """All conditions but those on the kind."""
        clauses: list[str] = []
        bound: list[Any] = []
        for name, condition in _RANGES.items():
            if (value := getattr(self._selection, name)) is not None:
                clauses.append(condition)
                bound.append(value)
        if flag and self._selection.flag:
            clauses.append("number IN (SELECT number FROM flags WHERE name = ?)")
            bound.append(self._selection.flag)
        if self._selection.out:
            clauses.append("number IN (SELECT number FROM by_hand)")
        return clauses, bound


def _where(clauses: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(clauses)}" if clauses else ""


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
        if not abs(number) <= 1e9:  # nan is not, either
            raise ValueError
        return number if name.startswith("unlike") else int(number)
    except ValueError:
        raise UsageError(f"{name} is no number that rows could have", fix="Type a plain number.") from None
