"""Every command in a fenced block of the documents is one that the command line takes: verb, options, values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.house.test_readme import ROOT, commands, shell_blocks

REFUSAL: Any = typer.BadParameter.__mro__[1]  # UsageError, which typer does not hand on under its own name
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BEFORE = re.compile(r"^(?:[A-Z_]+=\S+ +)*(?:torchrun .* -m +|\.venv/bin/)?penchant +(.*)$")


def told(page: Path) -> Iterator[str]:
    """The command lines of a page, those that go on over a line's end put together."""
    for block in shell_blocks(page.read_text(encoding="utf-8")):
        yield from commands(re.sub(r"\\\n\s*", " ", block))


@cache
def command_line() -> Any:
    from penchant.cli.main import app

    return typer.main.get_command(app)


def parsed(line: str) -> None:
    """Let the command line take a line apart, up to where its verb would begin to work."""
    words = shlex.split(line)
    command, context = command_line(), None
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context or command.context_class(command), words)
        context = command.context_class(command, info_name=name, parent=context)
    command.make_context(command.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_taken(page: Path) -> None:
    lines = [line for line in told(page) if BEFORE.match(line)]
    for line in lines:
        rest = BEFORE.match(line)
        assert rest is not None
        if "..." in rest[1]:
            continue  # it says itself that something is left out
        try:
            parsed(rest[1].split(" | ")[0].split(" > ")[0].rstrip("& "))
        except REFUSAL as error:
            pytest.fail(f"{page.name}: {line}: {error.message}")


def test_there_are_commands_to_look_at_and_others_would_be_noticed() -> None:
    assert sum(bool(BEFORE.match(line)) for page in PAGES for line in told(page)) > 30
    for wrong in ("trian demo", "train demo --dat x.jsonl", "recipes demo --json --sets a=b", "eval"):
        with pytest.raises(REFUSAL):
            parsed(wrong)
