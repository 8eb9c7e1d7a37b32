"""docs/reliability.md names tests, and every one of them exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def named_tests() -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/.]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))


def table_rows() -> list[str]:
    """Return the rows of the tables that have a column of tests."""
    rows, counts = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            counts = False
        elif line.rstrip().endswith("| test |"):
            counts = True
        elif counts and not set(line) <= set("|- "):
            rows.append(line)
    return rows


def test_every_test_that_the_page_names_exists() -> None:
    named = named_tests()
    assert len(named) > 20
    missing = []
    for file, name in named:
        path = ROOT / file
        found = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
        if name not in {node.name for node in found if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_promise_names_a_test() -> None:
    assert table_rows()
    assert [row for row in table_rows() if "::test_" not in row.rsplit("|", 2)[1]] == []
