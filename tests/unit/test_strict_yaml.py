"""YAML of strangers: bounded, plain, and never code."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant.errors import UsageError
from penchant.strict_yaml import parse_yaml, read_yaml

LAUGHS = 'a: &a ["ha", "ha"]\n' + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "aliases"),
        ("a: &a [*a]", "aliases"),
        ("base: &b {x: 1}\nc: {<<: *b}", "aliases"),
        ("[" * 10_000 + "]" * 10_000, "nested deeper than 20"),
        ("{a: " * 10_000 + "1" + "}" * 10_000, "nested deeper than 20"),
        ("".join(f"{'  ' * depth}a:\n" for depth in range(100)), "nested deeper than 20"),
        ("a: 1\na: 2", "stands twice"),
        ("a: {b: 1, b: 2}", "stands twice"),
        ("a: !!python/object/apply:os.system ['touch canary']", "python/object"),
        ("a: !!python/name:os.system", "python/name"),
        ("!!python/module:os", "python/module"),
        ("a: !own 1", "!own"),
        ("? [a, b]\n: 1", "not a word"),
        ("1: 2", "not a word"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: " + "9" * 5000, "digits"),
        ("a: 'x\x00'", "not YAML"),
    ],
)
def test_what_is_not_plain_is_refused(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        parse_yaml(text, where="here")
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_refused_and_not_read_to_its_end(tmp_path: Path) -> None:
    """Twenty depths and a million bytes pass; a file of many gigabytes costs a million bytes."""
    assert parse_yaml("a: " + "x" * 900_000, where="here") == {"a": "x" * 900_000}
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(2**40)  # a sparse file: a terabyte of zeros
    with pytest.raises(UsageError, match="more than 1000000 bytes"):
        read_yaml(large)


def test_what_looks_like_a_number_is_one_and_a_word_is_a_word() -> None:
    text = "a: 5e-7\nb: no\nc: 010\nd: 1_000\ne: 2024-01-01\nf: 1:30\ng: 0x10\nh: 1.5e3\ni: on"
    assert parse_yaml(text, where="here") == {
        "a": 5e-7,
        "b": "no",
        "c": 10,
        "d": "1_000",
        "e": "2024-01-01",
        "f": "1:30",
        "g": "0x10",
        "h": 1500.0,
        "i": "on",
    }
