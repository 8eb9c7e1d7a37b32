"""Every command in a fenced block of the documents runs as it stands, in the order of its page, on tiny things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.docs_commands import PAGES, Command, commands_in, commands_of, python_of
from tests.docs_runner import Page, meant
from tests.docs_world import MAKING, NOT_RUN, make_world
from tests.warm import Warm

WITH_COMMANDS = [page for page in PAGES if any(one.text not in NOT_RUN for one in commands_of(page))]
WITH_PYTHON = [page for page in PAGES if python_of(page)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "world"
    make_world(folder)
    return folder


@pytest.fixture(scope="module")
def made(world: Path, warm: Warm) -> Callable[[], Path]:
    """Gives a folder with a small finished run, prepared pairs and answers, made when it is first wanted."""

    @cache
    def folder() -> Path:
        page = Page(warm, world, folder, world.parent / "made")
        for text in MAKING:
            page.run(Command("before the pages", text))
        return page.folder

    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_commands_run(page: Path, world: Path, made: Callable[[], Path], warm: Warm, tmp_path: Path) -> None:
    place = Page(warm, world, made, tmp_path / "page")
    for command in commands_of(page):
        if command.text not in NOT_RUN:
            place.run(command)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_runs(page: Path, world: Path, made: Callable[[], Path], warm: Warm, tmp_path: Path) -> None:
    done = Page(warm, world, made, tmp_path / "page").python(python_of(page))
    assert done.code == 0, done.err[-3000:]


def test_what_does_not_run_stands_in_the_documents() -> None:
    """No line of the table is out of date, and what it leaves out is the lesser part."""
    told = Counter(command.text for page in PAGES for command in commands_of(page))
    assert set(NOT_RUN) - set(told) == set()
    left_out = sum(told[text] for text in NOT_RUN)
    assert (left_out, len(NOT_RUN)) == (21, 20)
    assert sum(told.values()) - left_out > 60
    assert WITH_PYTHON


def test_the_reading_itself_sees_what_it_should() -> None:
    text = (
        "```sh\n$ make demo  # a minute\npenchant train \\\n    demo\n```\n```python\nmake = 1\n```\n"
        "```\nhead=$(x)\nA=b .venv/bin/penchant eval x && penchant ui\nlist > penchant\n```\n"
    )
    expected = ["make demo", "penchant train demo", "A=b .venv/bin/penchant eval x", "penchant ui"]
    assert commands_in(text) == expected
    assert meant(Command("", "make demo")) == ["penchant", "demo"]
    assert Command("", "penchant recipes demo > mine.yaml").into == "mine.yaml"


def test_a_command_that_fails_is_noticed(world: Path, warm: Warm, tmp_path: Path) -> None:
    page = Page(warm, world, lambda: world, tmp_path / "page")
    with pytest.raises(AssertionError, match="ended with 2"):
        page.run(Command("a page", "penchant train demo --data NOWHERE.jsonl --out runs/x --sett a=b"))
