"""The data browser over HTTP: every row is there, its evidence too, and leaving one out changes a list alone."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.browsed import HOSTILE, hostile_rows, rows_of, write_rows
from tests.pages import client, running
from tests.tiny import save_tiny, tiny_llama

from penchant.config import PrepareConfig, build
from penchant.data.exclusions import read_exclusions
from penchant.data.ledger import Ledger
from penchant.errors import UsageError
from penchant.types import LedgerEntry
from penchant.web.data_builds import Builds, NotReadyError
from penchant.web.data_index import build_index, index_path, opened
from penchant.web.data_pages import data_part
from penchant.web.data_rows import browsed_rows
from penchant.web.data_sources import all_sources, named_source
from penchant.workflow.inspect import load_chat
from penchant.workflow.prepare import prepare
from penchant.workflow.sources import named_sources


def get(site: httpx2.Client, path: str) -> httpx2.Response:
    """A page, waited for while its index is made."""
    for _ in range(600):
        found = site.get(path)
        if "looks again every second" not in found.text:
            return found
        time.sleep(0.05)
    raise AssertionError("the index is not made")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "raw.jsonl", [*rows_of(120), *hostile_rows()], broken=True)


@pytest.fixture
def run(tmp_path: Path, raw: Path) -> Path:
    """What a run on the raw rows leaves of its data: half of them cut, one dropped, by a tiny tokenizer."""
    folder = tmp_path / "runs" / "one"
    save_tiny(tmp_path / "start", tiny_llama(layers=1))
    ledger = Ledger()
    for row in browsed_rows(named_source(raw)):
        one = row.entry
        if one.fate == "kept" and one.line % 2:
            one = LedgerEntry(one.source, one.line, one.id, "cut", "response_cut", "tokens lost: prompt 0")
        ledger.append(one)
    ledger.write(folder / "ledger.parquet")
    settings = f"model: {{path: {tmp_path / 'start'}}}\ndata: {{max_tokens: 40}}\nrun: {{data: {raw}}}\n"
    (folder / "config.yaml").write_text(settings, encoding="utf-8")
    return folder


@pytest.fixture
def site(raw: Path, run: Path) -> Iterator[httpx2.Client]:
    part = data_part([raw], runs=run.parent, load_chat=load_chat)
    with running([part]) as origin, client(origin) as found:
        yield found


def keys(raw: Path, run: Path) -> list[str]:
    return [source.key for source in all_sources([raw], run.parent)]


def test_every_row_of_the_ledger_is_listed_once_and_the_fates_add_up(
    site: httpx2.Client, raw: Path, run: Path
) -> None:
    start = get(site, "/data").text
    for key in keys(raw, run):
        assert f'href="/data/{key}"' in start
    key = keys(raw, run)[1]
    first = get(site, f"/data/{key}").text
    counts = Ledger.read(run / "ledger.parquet").counts()
    assert f"{sum(counts.values())} rows came in" in first
    for fate, count in counts.items():
        assert f">{count} {fate}</a>" in first
    seen = []
    for page in (1, 2, 3):
        text = get(site, f"/data/{key}?page={page}").text
        seen += re.findall(r'open-row" href="[^"]*/rows/(\d+)', text)
    assert [int(number) for number in seen] == list(range(1, sum(counts.values()) + 1))
    dropped = get(site, f"/data/{key}?fate=dropped&reason=identical_responses").text
    assert dropped.count("open-row") == 1
    assert "No row is like that" in get(site, f"/data/{key}?q=nothinglikethis").text
    assert site.get(f"/data/{key}?sort=longr").status_code == 422
    assert site.get("/data/other").status_code == 404
    assert get(site, f"/data/{key}/rows/999").status_code == 404


def test_a_row_shows_its_texts_evidence_tokens_and_neighbours(site: httpx2.Client, raw: Path, run: Path) -> None:
    key = keys(raw, run)[1]
    get(site, f"/data/{key}")
    page = get(site, f"/data/{key}/rows/3?sort=longer&fate=cut").text
    assert "response_cut" in page
    assert "tokens lost: prompt 0" in page
    assert "its responses were too long" in page.lower()
    for rule in ("min length", "lexical overlap", "nouns and verbs"):
        assert f'<th scope="row">{rule}</th>' in page
    assert "each must have more than 50" in page or "each must have more than" in page
    assert "<mark>yes" in page
    assert "<mark>no" in page
    assert "of 61 selected" in page
    assert "sort=longer" in page
    tokens = get(site, f"/data/{key}/rows/3?tokens=1").text
    assert "at most 40 tokens" in tokens
    assert '<b class="t' in tokens
    assert '<s class="t' in tokens
    hostile = get(site, f"/data/{key}/rows/121").text
    assert "<script>document" not in hostile
    assert "&lt;script&gt;document.title=2" in hostile
    no_pair = get(site, f"/data/{key}/rows/122").text
    assert "The row makes no pair" in no_pair
    assert "Both responses are the same text" in no_pair
    broken = get(site, f"/data/{key}/rows/125").text
    assert "no row that can be read" in broken


def test_leaving_out_writes_a_list_that_prepare_reads_and_undo_empties_it(
    site: httpx2.Client, raw: Path, run: Path, tmp_path: Path
) -> None:
    before = raw.read_bytes()
    key = keys(raw, run)[1]
    get(site, f"/data/{key}")
    for number, reason in ((2, "wrong"), (4, HOSTILE)):
        done = site.post(f"/data/{key}/rows/{number}/leave-out?sort=longer", data={"reason": reason})
        assert done.status_code == 303
        assert done.headers["location"] == f"/data/{key}/rows/{number}?sort=longer#by-hand"
    [file] = (run.parent / "excluded").glob("*.jsonl")
    assert [one.id for one in read_exclusions(file).values()] == ["row 1", "row 3"]
    for one in keys(raw, run):  # the run's data is the file
        text = get(site, f"/data/{one}?out=1").text
        assert text.count("open-row") == 2
        assert "2 left out by you" in text
    config = build(PrepareConfig, {"exclude": str(file)})
    card = prepare(named_sources("local", [str(raw)]), tmp_path / "made", config)
    assert card["dropped"]["excluded_by_hand"] == 2
    done = site.post(f"/data/{key}/rows/4/put-back", data={"undo": ""})
    assert done.status_code == 303
    assert [one.id for one in read_exclusions(file).values()] == ["row 1"]
    assert site.post(f"/data/{key}/rows/122/leave-out", data={"reason": ""}).status_code == 404
    assert site.post(f"/data/{key}/rows/2/other", data={"reason": ""}).status_code == 404
    assert site.get(f"/data/{key}/rows/2/leave-out").status_code == 405
    assert raw.read_bytes() == before


def test_lists_never_lie_in_the_data(tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "data" / "train.jsonl", rows_of(2)).parent
    with pytest.raises(UsageError, match="never written to"):
        data_part([folder], lists=folder / "lists")
    with pytest.raises(UsageError, match='Did you mean "data"'):
        data_part([tmp_path / "dta"])


def test_a_prepared_folder_shows_what_was_dropped_from_its_source(tmp_path: Path, raw: Path) -> None:
    config = build(PrepareConfig, {"strong": True, "test_fraction": 0.2, "strength": {"min_length": 20}})
    prepare(named_sources("local", [str(raw)]), tmp_path / "made", config)
    source = named_source(tmp_path / "made")
    assert source.kind == "prepared"
    rows = list(browsed_rows(source))
    ledger = list(Ledger.read(tmp_path / "made" / "ledger.parquet"))
    assert [row.entry for row in rows] == ledger
    assert {row.split for row in rows if row.entry.fate == "kept"} <= {"train", "test"}
    assert all(row.pair or row.raw or row.note for row in rows)
    weak = next(row for row in rows if row.entry.reason == "min_length")
    assert weak.pair is not None
    with running([data_part([tmp_path / "made"])]) as origin, client(origin) as site:
        get(site, f"/data/{source.key}")
        page = get(site, f"/data/{source.key}/rows/{rows.index(weak) + 1}").text
        assert "The data was filtered with these thresholds" in page
        assert "each must have more than 20" in page
        assert "✗ drop" in page
        assert weak.entry.evidence.partition(";")[0] in page
    raw.unlink()
    gone = [row for row in browsed_rows(source) if row.entry.fate == "dropped"]
    assert gone
    assert all("cannot be read any more" in row.note for row in gone)


def test_an_index_is_made_again_when_it_is_damaged_or_its_file_has_changed(raw: Path) -> None:
    source, builds = named_source(raw), Builds()
    path = index_path(source)

    def rows() -> int:
        for _ in range(600):
            try:
                with builds.open(source) as connection:
                    return connection.execute("SELECT count(*) FROM rows").fetchone()[0]
            except NotReadyError:
                time.sleep(0.02)
        raise AssertionError("never ready")

    assert rows() == 125
    for damage in (b"", b"no database", path.read_bytes()[:5000], b"SQLite format 3\0" + bytes(4096)):
        path.write_bytes(damage)
        assert rows() == 125
    write_rows(raw, rows_of(10))
    assert rows() == 10
    assert not path.exists()  # the index of what the file said before
    assert [one.name for one in path.parent.iterdir()] == [index_path(source).name]


def test_two_builders_at_once_leave_one_whole_index(raw: Path) -> None:
    source, errors = named_source(raw), []
    path = index_path(source)

    def make() -> None:
        try:
            build_index(source, path, lambda doing, count: None)
        except Exception as error:  # told below
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(path.parent.iterdir()) == [path]
    with opened(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"a": 1}\n', encoding="utf-8")
    with running([data_part([bad])]) as origin, client(origin) as site:
        found = get(site, f"/data/{named_source(bad).key}")
        assert found.status_code == 422
        assert "bad.jsonl" in found.text


def test_an_index_of_another_version_is_none(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    build_index(named_source(raw), path, lambda doing, rows: None)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE facts SET value = '0' WHERE name = 'version'")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match="version"), opened(path):
        raise AssertionError("it was opened")


def test_examples_to_imitate_can_be_browsed(tmp_path: Path) -> None:
    rows: list[Any] = [{"instruction": f"do {n}", "output": f"done {n}"} for n in range(3)]
    path = tmp_path / "examples.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    found = list(browsed_rows(named_source(path)))
    assert [row.pair.chosen for row in found if row.pair] == ["done 0", "done 1", "done 2"]
    with running([data_part([path])]) as origin, client(origin) as site:
        page = get(site, f"/data/{named_source(path).key}/rows/2").text
        assert "done 1" in page
        assert "Strong-preference filter" not in page
