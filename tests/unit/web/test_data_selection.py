"""Search and filters find what a plain loop over the rows finds, whatever is typed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.browsed import HOSTILE, WORDS, hostile_rows, rows_of, write_rows

from penchant.data.formats import FORMATS
from penchant.data.rows import read_rows
from penchant.data.source import load_pairs
from penchant.data.strength import judge_all
from penchant.data.tagging import Tagger
from penchant.errors import UsageError
from penchant.types import PreferencePair
from penchant.web.data_index import PASSES, build_index, opened, quick_strength
from penchant.web.data_selection import SORTS, Selected, Selection
from penchant.web.data_sources import named_source

COUNT = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [*rows_of(COUNT), *hostile_rows()[:1], rows_of(COUNT)[3] | {"id": "again"}]
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", rows)


@pytest.fixture(scope="module")
def index(data: Path) -> Path:
    path = data.with_name("index.sqlite")
    build_index(named_source(data), path, lambda doing, rows: None)
    return path


def plain_words(text: str) -> list[str]:
    """The words of a text, found character by character."""
    found, word = [], ""
    for char in unicodedata.normalize("NFKC", text).casefold() + " ":
        ideograph = "\u3400" <= char <= "\u9fff"
        if (char.isalnum() or char == "_") and not ideograph:
            word += char
            continue
        found += [one for one in (word, char if ideograph else "") if one]
        word = ""
    return found


def holds(words: list[str], wanted: list[str], begins: bool) -> bool:
    for start in range(len(words) - len(wanted) + 1):
        here = words[start : start + len(wanted)]
        if here == wanted or (begins and here[:-1] == wanted[:-1] and here[-1].startswith(wanted[-1])):
            return True
    return False


def plain_search(fields: dict[str, str], typed: str, within: str) -> bool:
    """Whether a row has all that was typed."""
    texts = [plain_words(text) for name, text in fields.items() if within in ("", name)]
    for quoted, bare in re.findall(r'"([^"]*)"|([^\s"]+)', typed):
        wanted = plain_words(quoted or bare)
        if wanted and not any(holds(words, wanted, bare.endswith("*")) for words in texts):
            return False
    return True


def table(data: Path) -> list[dict[str, Any]]:
    """Every row as a plain loop sees it."""
    _, ledger = load_pairs(data)
    pairs = {row.line: FORMATS["local"].to_pair(row) for row in read_rows(data)}
    found = []
    for number, entry in enumerate(ledger, 1):
        pair = pairs[entry.line]
        row: dict[str, Any] = {"number": number, "fate": entry.fate, "reason": entry.reason, "fields": {}}
        row |= {"source": "rows.jsonl", "rule": "", "gap": None, "difference": None, "split": ""}
        if isinstance(pair, PreferencePair):
            prompt = "\n".join(turn.content for turn in pair.prompt)
            row["fields"] = {"prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected, "id": pair.id}
            row["gap"] = len(pair.chosen.split()) - len(pair.rejected.split())
            verdicts = judge_all(pair, quick_strength(), Tagger("none", "", lambda _: 0))
            row["rule"] = next((one.rule for one in verdicts if not one.keep), PASSES)
            row["difference"] = next(one.figure for one in verdicts if one.rule == "sufficient_difference")
            row["source"] = pair.origin or "rows.jsonl"
        found.append(row)
    return found


def plain_selection(rows: list[dict[str, Any]], selection: Selection) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        ranges = (("gap", selection.gap_from, selection.gap_to), ("difference", selection.unlike_from, None))
        if not plain_search(row["fields"], selection.q, selection.within) and plain_words(selection.q):
            continue
        if any(getattr(selection, name) not in ("", row[name]) for name in ("fate", "reason", "source", "rule")):
            continue
        if any(least is not None and (row[name] is None or row[name] < least) for name, least, _ in ranges):
            continue
        if selection.gap_to is not None and (row["gap"] is None or row["gap"] > selection.gap_to):
            continue
        found.append(row)
    return found


def shared_with_sql(rows: list[dict[str, Any]], sort: str) -> list[int]:
    keys = {
        "": lambda row: row["number"],
        "longer": lambda row: 1e9 if row["gap"] is None else -row["gap"],
        "alike": lambda row: 9 if row["difference"] is None else row["difference"],
    }
    return [row["number"] for row in sorted(rows, key=lambda row: (keys[sort](row), row["number"]))]


TRICKS = ["yes", "no", "row", '"yes apple"', "app*", '"', "*", "(", "-", "{prompt} :", "^"]
TYPED = st.one_of(
    st.lists(st.sampled_from([*WORDS, *TRICKS])).map(" ".join),
    st.text(max_size=30),
)
SELECTIONS = st.builds(
    Selection,
    q=TYPED,
    within=st.sampled_from(["", "prompt", "chosen", "rejected", "id"]),
    fate=st.sampled_from(["", "", "kept", "dropped"]),
    reason=st.sampled_from(["", "", "", "duplicate_pair"]),
    source=st.sampled_from(["", "", "elsewhere", "rows.jsonl"]),
    rule=st.sampled_from(["", "", "min_length", PASSES]),
    gap_from=st.none() | st.integers(-5, 5),
    gap_to=st.none() | st.integers(-5, 5),
    unlike_from=st.none() | st.floats(0, 1),
    sort=st.sampled_from(["", "longer", "alike"]),
)


@settings(max_examples=40)
@given(SELECTIONS)
@example(Selection(q='apple" OR "pear'))
@example(Selection(q="NEAR(apple pear)"))
@example(Selection(q="chosen:apple AND NOT pear*"))
@example(Selection(q="' ; DROP TABLE rows; --", within="chosen"))
@example(Selection(q="東京", within="prompt"))
@example(Selection(q="STRASSE"))
@example(Selection(q="\u0000\ud800 \u202e"))
def test_what_is_selected_is_what_a_loop_selects(data: Path, index: Path, selection: Selection) -> None:
    with opened(index) as connection:
        rows = plain_selection(table_once(data), selection)
        selected = Selected(connection, selection)
        numbers = selected.numbers()
        assert numbers == shared_with_sql(rows, selection.sort)
        assert selected.count() == len(rows)
        assert selected.numbers(7, 3) == numbers[3:10]
        for place, number in enumerate(numbers[:3]):
            before = numbers[place - 1] if place else None
            after = numbers[place + 1] if place + 1 < len(numbers) else None
            assert selected.around(number) == (place + 1, before, after)


def test_counts_are_those_of_choosing_the_value(data: Path, index: Path) -> None:
    with opened(index) as connection:
        base = Selection(q="apple", rule="min_length")
        selected = Selected(connection, base)
        for name in ("fate", "source", "rule"):
            others = plain_selection(
                table_once(data), Selection(q="apple", rule="" if name == "rule" else base.rule)
            )
            assert selected.counts(name) == dict(Counter(row[name] for row in others if row[name]))


_TABLES: dict[Path, list[dict[str, Any]]] = {}


def table_once(data: Path) -> list[dict[str, Any]]:
    return _TABLES.setdefault(data, table(data))


def test_an_address_says_everything_and_says_what_is_wrong_with_it() -> None:
    selection = Selection(q='a "b c" é', fate="kept", gap_from=-3, unlike_to=0.5, sort="alike", page=3, tokens="1")
    query = {name: values[0] for name, values in parse_qs(selection.query(page=3)[1:]).items()}
    assert Selection.of(query) == selection
    assert Selection().query() == ""
    assert Selection.of({"q": "  ", "page": "-7", "else": "x"}) == Selection()
    for wrong, message in (
        ({"sort": "longr"}, 'Did you mean "longer"'),
        ({"gap_from": "many"}, "gap_from is no number"),
        ({"unlike_to": "nan"}, "unlike_to is no number"),
        ({"q": "x" * 501}, "at most 500"),
    ):
        with pytest.raises(UsageError) as caught:
            Selection.of(wrong)
        assert message in str(caught.value)


def test_every_order_has_a_name_and_works(index: Path) -> None:
    for sort in SORTS:
        with opened(index) as connection:
            assert sorted(Selected(connection, Selection(sort=sort)).numbers()) == list(range(1, COUNT + 3))


def test_hostile_words_are_found_as_words(index: Path) -> None:
    with opened(index) as connection:
        assert Selected(connection, Selection(q=HOSTILE[:200], within="id")).numbers() == [COUNT + 1]
