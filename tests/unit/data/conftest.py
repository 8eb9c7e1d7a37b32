"""Files and rows written for the tests of the data layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from penchant.data.rows import RawRow


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as one JSON object a line and return the file."""

    def write(*rows: object, name: str = "pairs.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file

    return write


@pytest.fixture
def raw() -> Callable[..., RawRow]:
    """Make the raw row at line 7 of a file."""

    def make(**values: object) -> RawRow:
        return RawRow("folder/pairs.jsonl", 7, values)

    return make
