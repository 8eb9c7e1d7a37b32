"""The tables of README.md, docs/benchmarks.md and docs/questions.md are what bench/results comes to."""

from __future__ import annotations

from bench.render import pages


def test_tables_are_those_of_the_results() -> None:
    written = pages()
    assert {path.name for path in written} == {"README.md", "benchmarks.md", "questions.md"}
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, f"python -m bench.render would change {path.name}"
