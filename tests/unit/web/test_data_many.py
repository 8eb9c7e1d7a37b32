"""The data browser over 50,000 pairs: how long its pages take. The figures are printed and not judged."""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from pathlib import Path

import httpx2
import pytest
from tests.pages import client, running
from tests.shared_data import shared_file

from penchant.data.formats import FORMATS
from penchant.data.source import load_pairs
from penchant.web.data_index import build_index, index_path
from penchant.web.data_pages import data_part
from penchant.web.data_sources import named_source

PAIRS = 50_000
TIMES = 9
SOURCES = {
    "hh_rlhf/harmless-base.test.lines-0001-1000.jsonl.gz": "hh_rlhf",
    "orca_dpo_pairs/azure_validation.lines-001-142.jsonl": "local",
    "llamafactory/dpo_en_demo.json": "local",
}
PAGES = {
    "list": "",
    "search, a rare word": "?q=zebra",
    "search, a word of nearly all rows": "?q=the",
    "search, two words": "?q=how+to",
    "search in a field, filtered": "?q=the&within=chosen&rule=passes&gap_from=10",
    "filter by a rule": "?rule=lexical_overlap",
    "filter by a lint finding": "?flag=near_duplicate",
    "sorted": "?sort=unlike",
    "deep page": "?page=990",
    "deep page, sorted, searched": "?q=the&sort=unlike&page=800",
    "row": "/rows/25000",
    "row within a search, sorted": "/rows/25000?q=the&sort=alike",
}


def many_pairs(path: Path) -> None:
    """Write pairs as long as real ones: prompts of real rows, responses of others with their words in disorder."""
    pool = [
        pair
        for name, kind in SOURCES.items()
        for pair in load_pairs(shared_file(name), data_format=FORMATS[kind])[0]
    ]
    chance = random.Random(0)

    def disorder(text: str) -> str:
        words = text.split(" ")
        chance.shuffle(words)
        return " ".join(words)

    with path.open("w", encoding="utf-8") as lines:
        for number in range(PAIRS):
            asked, answered = chance.choice(pool), chance.choice(pool)
            prompt = [turn.as_message() for turn in asked.prompt]
            prompt[-1]["content"] += f" {number}"
            row = {"prompt": prompt, "chosen": disorder(answered.chosen), "rejected": disorder(answered.rejected)}
            lines.write(json.dumps(row | {"source": chance.choice(["one", "two", "three"])}) + "\n")


def milliseconds(site: httpx2.Client, path: str) -> list[float]:
    """What a page takes, from the request to its last byte, a few times."""
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        answer = site.get(path)
        found.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, answer.text[:500]
        assert "looks again every second" not in answer.text
    return found


@pytest.mark.slow
def test_pages_of_fifty_thousand_pairs(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    many_pairs(path)
    source = named_source(path)
    index = index_path(source)
    told: dict[str, float] = {}
    began = time.perf_counter()

    def heard(doing: str, rows: int) -> None:
        told.setdefault(doing, round(time.perf_counter() - began, 1))

    build_index(source, index, heard)
    seconds = time.perf_counter() - began
    print(f"\n{PAIRS} pairs, {path.stat().st_size / 1e6:.0f} MB; load {os.getloadavg()[0]:.1f}")
    print(f"index: {seconds:.1f} s, {index.stat().st_size / 1e6:.0f} MB; begins: {told}")
    with running([data_part([path])]) as origin, client(origin) as site:
        first = site.get(f"/data/{source.key}").text
        assert f"{PAIRS:,} rows came in" in first
        time.sleep(5)  # the tagger is loaded behind the first page
        for name, rest in PAGES.items():
            taken = milliseconds(site, f"/data/{source.key}{rest}")
            print(f"{name:36} median {statistics.median(taken):6.0f} ms, longest {max(taken):6.0f} ms")
        print(f"load {os.getloadavg()[0]:.1f}")
