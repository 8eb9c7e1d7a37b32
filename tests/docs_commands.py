"""What the documents tell a reader to type: every command and piece of Python in a fenced block, in order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"", "sh", "bash", "shell", "console"}
PYTHON = {"python", "py"}

_BLOCK = re.compile(r"^ *```([\w-]*)[^\n]*\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)
_VARIABLES = r"(?:[A-Z_]+=\S+ +)*"
_OURS = re.compile(rf"^{_VARIABLES}(?:\S*/)?(?:penchant|make|python3?|torchrun|srun)\b")


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        page: The file's name.
        text: As it stands there, a continued line put together.
    """

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its words as a shell would take them apart, up to a redirection."""
        return shlex.split(self.text.partition(" > ")[0])

    @property
    def into(self) -> str:
        """The file that its output goes to, "" without one."""
        return self.text.partition(" > ")[2].strip()


def commands_of(page: Path) -> list[Command]:
    """Return a page's commands that concern Penchant; of a shell script around them only these."""
    return list(_commands(page.name, page.read_text(encoding="utf-8")))


def commands_in(text: str) -> list[str]:
    """Return the same of a text, as they stand there."""
    return [command.text for command in _commands("", text)]


def python_of(page: Path) -> str:
    """Return a page's Python as one program."""
    return "\n".join(_blocks(page.read_text(encoding="utf-8"), PYTHON))


def _blocks(text: str, languages: set[str]) -> list[str]:
    return [body for language, body in _BLOCK.findall(text) if language in languages]


def _commands(page: str, text: str) -> Iterator[Command]:
    for body in _blocks(text, SHELL):
        for line in re.sub(r"\s*\\\n\s*", " ", body).splitlines():
            told = re.sub(r"^\s*\$ |\s*(^|\s)#.*$", "", line).strip()
            yield from (Command(page, part) for part in told.split(" && ") if _OURS.match(part))
