"""What a start model and data say of their licences; whatever cannot be read says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from penchant.reporting.licences import data_licences, model_licence


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\n# Model\n", "mit"),
        ("---\r\nlicense: apache-2.0\r\n---\r\ntext", "apache-2.0"),
        ("---\nlicense: [mit, other]\n---\n", None),
        ("---\nlicense: a b\n---\n", None),
        ("---\nlicense: <script>\n---\n", None),
        ("---\n- license\n---\n", None),
        ("---\nlicense: {mit\n---\n", None),
        ("---\nlicense: mit\nlicense: other\n---\n", None),
        ("# Model\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_of_a_models_card(tmp_path: Path, card: str, found: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert model_licence(str(tmp_path)) == found


def test_of_a_card_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert model_licence(str(tmp_path)) is None


def test_of_other_starts(tmp_path: Path) -> None:
    assert model_licence("bundled") == "apache-2.0"
    assert model_licence(str(tmp_path)) is None
    assert model_licence("someone/not-cached") is None
    assert model_licence("x" * 5000) is None
    assert model_licence("a\0b") is None


def test_of_a_model_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: llama3.2\n---\n", encoding="utf-8")
    asked: list[tuple[str, str]] = []

    def cached(repo: str, file: str) -> str:
        asked.append((repo, file))
        return str(card)

    monkeypatch.setattr("penchant.reporting.licences.try_to_load_from_cache", cached)
    assert model_licence("someone/model") == "llama3.2"
    assert asked == [("someone/model", "README.md")]


def test_of_a_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_license("apache-2.0")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert model_licence(str(file)) == "apache-2.0"


def test_of_prepared_data(tmp_path: Path) -> None:
    card = {"sources": [{"name": "hh_rlhf", "licence": "MIT"}, {"name": "local", "licence": ""}]}
    (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert data_licences(str(tmp_path)) == {"hh_rlhf": "MIT"}
    assert data_licences("PAIRS.jsonl") == {}
    for other in ("[]", "{", '{"sources": 3}', '{"sources": [3]}'):
        (tmp_path / "card.json").write_text(other, encoding="utf-8")
        assert data_licences(str(tmp_path)) == {}
