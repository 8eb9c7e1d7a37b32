"""Single responses with a label: read with it, and what says nothing is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penchant.data.formats import LABELLED
from penchant.data.source import load_pairs
from penchant.errors import DataError
from penchant.workflow.setup import read_pairs


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


MESSAGES = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "why?", "completion": "so", "label": False},
        {"prompt": MESSAGES[:1], "completion": MESSAGES[1:], "label": False},
        {"messages": MESSAGES, "label": False},
        {
            "conversations": [{"from": "human", "value": "why?"}, {"from": "gpt", "value": "so"}],
            "kto_tag": False,
        },
    ],
)
def test_a_response_has_its_label(row: dict[str, Any], tmp_path: Path) -> None:
    [pair], ledger = load_pairs(written(tmp_path, [row]), data_format=LABELLED)
    assert [(turn.role, turn.content) for turn in pair.prompt] == [("user", "why?")]
    assert (pair.chosen, pair.rejected, pair.desirable) == ("so", "", False)
    assert ledger.counts()["kept"] == 1


def test_pairs_have_no_label_yet(tmp_path: Path) -> None:
    """They are read as pairs; `labelled_responses` takes them apart."""
    [pair], _ = load_pairs(
        written(tmp_path, [{"prompt": "a", "chosen": "b", "rejected": "c"}]), data_format=LABELLED
    )
    assert (pair.chosen, pair.rejected, pair.desirable) == ("b", "c", None)


@pytest.mark.parametrize("label", [None, "maybe", 1])
def test_a_label_that_says_nothing_is_an_error_with_its_line(label: object, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": str(n), "label": value} for n, value in enumerate([True, label])]
    with pytest.raises(DataError, match=r'rows\.jsonl:2: column "label"'):
        load_pairs(written(tmp_path, rows), data_format=LABELLED)


def test_a_loss_of_pairs_refuses_them_and_names_kto(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"objective\.loss=kto"):
        read_pairs(written(tmp_path, [{"prompt": "a", "completion": "b", "label": True}]), split=None)
