"""The README promises only what exists, and begins with the two commands that a newcomer needs."""

import re
from pathlib import Path

import typer

ROOT = Path(__file__).parents[2]
SHELL = {"", "sh", "bash", "shell", "console"}


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def shell_blocks(text: str) -> list[str]:
    """Return what stands in the fenced blocks of shell commands, in order."""
    blocks = re.findall(r"^ *```([\w-]*)[^\n]*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    return [body for language, body in blocks if language in SHELL]


def commands(text: str) -> list[str]:
    """Return the commands of a shell block without prompts and comments."""
    lines = (re.sub(r"^\s*\$ |\s*(^|\s)#.*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def code(text: str) -> str:
    """Return all shell commands and all inline code, a line each."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*shell_blocks(text), *re.findall(r"`([^`\n]+)`", prose)])


def verbs_in(text: str) -> set[str]:
    return set(re.findall(r"(?<!import )(?<!from )(?<![\w.-])penchant +([a-z][a-z-]*)", code(text)))


def targets_in(text: str) -> set[str]:
    return set(re.findall(r"^(?:\$ )?make +([a-z][a-z-]*)", code(text), flags=re.MULTILINE))


def test_the_first_commands_are_demo_and_test() -> None:
    listed = [command for block in shell_blocks(readme()) for command in commands(block)]
    assert listed[:2] == ["make demo", "make test"]


def test_every_verb_it_names_exists() -> None:
    from penchant.cli.main import app

    command = typer.main.get_command(app)
    known = set(getattr(command, "commands", {}))
    assert known
    assert verbs_in(readme()) - known == set()


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert targets_in(readme()) - known == set()


def test_the_reading_itself_sees_what_it_should() -> None:
    text = (
        "```sh\n$ make demo  # a minute\nmake test\n```\nRun `penchant train RECIPE`, then `make slow`.\n"
        "```python\nimport penchant as p\n```\n```\npenchant make-pairs\n```\n"
    )
    assert [command for block in shell_blocks(text) for command in commands(block)][:2] == [
        "make demo",
        "make test",
    ]
    assert verbs_in(text) == {"train", "make-pairs"}
    assert targets_in(text) == {"demo", "test", "slow"}
