"""Help is quick: no verb loads torch, transformers or matplotlib to explain itself."""

import os
import subprocess
import sys

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


def test_what_draws_at_its_end_loads_matplotlib_only_then() -> None:
    modules = ", ".join(f"penchant.workflow.{name}" for name in ("train", "sweep", "plan", "compare", "online"))
    line = f"import sys, {modules}; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
