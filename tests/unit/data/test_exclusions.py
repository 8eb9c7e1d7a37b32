"""Rows left out by hand: the list, and what reading does with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tiny import pair_rows, write_rows

from penchant.config import PrepareConfig, build, build_config
from penchant.data.exclusions import Exclusion, read_exclusions, said_digest, with_row, write_exclusions
from penchant.data.ledger import Ledger
from penchant.data.source import load_pairs
from penchant.errors import DataError
from penchant.workflow.prepare import prepare
from penchant.workflow.sft import training_pairs
from penchant.workflow.sources import named_sources
from penchant.workflow.sweep_data import SPLITS, write_splits


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"id": f"row {n}", "prompt": f"question {n}", "chosen": f"good {n}", "rejected": f"bad {n}"}
        for n in range(9)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def listed(data: Path, *numbers: int) -> Path:
    pairs, _ = load_pairs(data)
    path = data.with_name("out.jsonl")
    write_exclusions(
        path, [Exclusion(pairs[n].id, said_digest(pairs[n]), "here", f"because {n}") for n in numbers]
    )
    return path


@pytest.mark.parametrize("loss", ["dpo", "sft"])
def test_training_leaves_out_what_is_listed_and_the_ledger_says_why(data: Path, loss: str) -> None:
    config = build_config({"objective": {"loss": loss}, "data": {"exclude": str(listed(data, 2, 5))}})
    pairs, ledger = training_pairs(config, data)
    assert [pair.id for pair in pairs] == [f"row {n}" for n in (0, 1, 3, 4, 6, 7, 8)]
    assert len(ledger) == 9
    dropped = {entry.id: (entry.reason, entry.evidence) for entry in ledger if entry.fate == "dropped"}
    assert dropped == {"row 2": ("excluded_by_hand", "because 2"), "row 5": ("excluded_by_hand", "because 5")}


@pytest.mark.parametrize("limit", [None, 39])
def test_a_sweep_has_what_is_listed_in_none_of_its_sets(tmp_path: Path, limit: int | None) -> None:
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(40))
    exclude, out = str(listed(data, 2, 5)), tmp_path / "sets"
    write_splits(data, None, out, fraction=0.3, limit=limit, exclude=exclude, note=lambda _: None)
    texts = [(out / f"{name}.jsonl").read_text(encoding="utf-8") for name in SPLITS]
    found = [json.loads(line)["id"] for text in texts for line in text.splitlines()]
    assert set(found) == {f"row-{n}" for n in range(limit or 40)} - {"row-2", "row-5"}
    reasons = {entry.id: entry.reason for entry in Ledger.read(out / "ledger.parquet") if entry.fate == "dropped"}
    assert reasons == {"row-2": "excluded_by_hand", "row-5": "excluded_by_hand"}


def test_prepare_leaves_out_too_and_a_mix_knows_its_own_names(data: Path, tmp_path: Path) -> None:
    exclude = listed(data, 0)
    card = prepare(
        named_sources("local", [str(data)]), tmp_path / "one", build(PrepareConfig, {"exclude": str(exclude)})
    )
    assert card["dropped"] == {"excluded_by_hand": 1}
    other = tmp_path / "other.jsonl"  # the same ids, other texts
    other.write_text(data.read_text().replace("question", "matter"), encoding="utf-8")
    sources = named_sources("mix", [f"a={data}", f"b={other}"], mix="a=1,b=1")
    prepare(sources, tmp_path / "both", build(PrepareConfig, {"exclude": str(exclude)}))
    ledger = Ledger.read(tmp_path / "both" / "ledger.parquet")
    assert [entry.id for entry in ledger if entry.reason == "excluded_by_hand"] == ["a:row 0"]
    write_exclusions(exclude, [Exclusion("b:row 3")])
    prepare(sources, tmp_path / "named", build(PrepareConfig, {"exclude": str(exclude)}))
    ledger = Ledger.read(tmp_path / "named" / "ledger.parquet")
    assert [entry.id for entry in ledger if entry.reason == "excluded_by_hand"] == ["b:row 3"]


def test_a_list_that_does_not_fit_the_data_is_an_error(data: Path, tmp_path: Path) -> None:
    path = listed(data, 1)
    config = build_config({"data": {"exclude": str(path)}})
    [one] = read_exclusions(path).values()
    write_exclusions(path, [replace(one, texts="0" * 32)])
    with pytest.raises(DataError, match="not the text that was left out"):
        training_pairs(config, data)
    write_exclusions(path, [Exclusion("row 99")])
    with pytest.raises(DataError, match="none of the 1 rows"):
        training_pairs(config, data)
    with pytest.raises(DataError, match="none of the 1 rows"):
        prepare(named_sources("local", [str(data)]), tmp_path / "x", build(PrepareConfig, {"exclude": str(path)}))
    write_exclusions(path, [Exclusion(f"row {n}") for n in range(9)])
    with pytest.raises(DataError, match="all of the 9 pairs"):
        training_pairs(config, data)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "no line of JSON"),
        ("[" * 100000, "no line of JSON"),
        ('["row 1"]', "an object of texts"),
        ('{"id": 7}', "an object of texts"),
        ('{"reason": "x"}', "there is no id"),
        ('{"id": "x", "why": "y"}', '"why" says nothing'),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_broken_list_names_the_line(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"id": "fine"}\n\n' + line, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=what) as caught:
        read_exclusions(path)
    assert "UTF-8" in what or str(caught.value.where).endswith("list.jsonl:3")


def test_a_list_is_kept_by_id_and_its_reasons_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "list.jsonl"
    hostile = "a\u2028b\n\ud800 <script>"
    write_exclusions(path, with_row({}, Exclusion(hostile, reason="one\n two")))
    known = read_exclusions(path)
    assert [(one.id, one.reason) for one in known.values()] == [(hostile, "one two")]
    write_exclusions(path, with_row(known, Exclusion(hostile, reason="three")))
    assert [one.reason for one in read_exclusions(path).values()] == ["three"]
    assert len(path.read_text("utf-8").splitlines()) == 1
