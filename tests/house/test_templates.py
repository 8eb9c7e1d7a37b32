"""Templates read values, never the methods that every dictionary has: `{{ row.clear }}` would be one, and true."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
from jinja2 import nodes

SOURCES = Path(__file__).parents[2] / "src" / "penchant"
METHODS = {"clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"}


def method_reads(text: str) -> list[str]:
    """Return the attributes called like a dictionary's method that a template reads without calling them."""
    tree = jinja2.Environment().parse(re.sub(r"\|\s*(number|share|digest|svg)\b", "", text))
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    return [node.attr for node in tree.find_all(nodes.Getattr) if node.attr in METHODS and id(node) not in called]


def test_no_template_takes_a_method_for_a_value() -> None:
    files = sorted(SOURCES.rglob("*.j2"))
    assert len(files) > 30
    found = {str(file.relative_to(SOURCES)): method_reads(file.read_text(encoding="utf-8")) for file in files}
    assert {name: reads for name, reads in found.items() if reads} == {}


def test_the_search_itself_sees_one() -> None:
    assert method_reads("{% if cell.clear %}x{% endif %}{{ row.items() }}{{ row.value }}") == ["clear"]
