"""Help is quick: no verb loads torch, transformers or matplotlib to explain itself."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

VERBS = (
    "demo",
    "doctor",
    "train",
    "eval",
    "generate",
    "chat",
    "score",
    "report",
    "make-pairs",
    "plan",
    "sft",
    "align",
    "sweep",
    "verify-resume",
    "judge",
    "compare",
    "explain",
    "online",
    "compare-rl",
    "ui",
    "arena",
    "track",
)
HEAVY = {"torch", "transformers", "matplotlib", "pyarrow"}


def help_of(*verb: str) -> tuple[str, set[str]]:
    """Return the help text and the top-level packages that were loaded to show it."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "penchant", *verb, "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    # A line reads "import time:   self |   cumulative |     package.module".
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    assert lines
    return run.stdout, {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


def test_help_names_every_verb_and_loads_nothing_heavy() -> None:
    text, loaded = help_of()
    assert [verb for verb in VERBS if verb not in text.split()] == []
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_loads_nothing_heavy(verb: str) -> None:
    text, loaded = help_of(verb)
    assert f"penchant {verb}" in " ".join(text.split())
    assert loaded & HEAVY == set()


def test_matplotlib_is_loaded_where_a_chart_is_drawn() -> None:
    """So a command that draws at its end begins at once: no module asks for it when it is imported."""
    sources = sorted((Path(__file__).parents[2] / "src" / "penchant").rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sources}
    drawing = [path for path, tree in trees.items() if any(asks_for_matplotlib(node) for node in ast.walk(tree))]
    assert len(drawing) > 5
    assert [path.name for path in drawing if any(asks_for_matplotlib(node) for node in trees[path].body)] == []


def asks_for_matplotlib(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == "matplotlib"
    return isinstance(node, ast.Import) and any(name.name.split(".")[0] == "matplotlib" for name in node.names)
