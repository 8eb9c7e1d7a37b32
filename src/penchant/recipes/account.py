"""What a file of another tool came to: the recipe, and one line about every key of the file."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from penchant.config import build_config
from penchant.errors import UsageError
from penchant.recipes.trl.dialect import Dialect
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.notes import Note, Notes, shown
from penchant.strict_yaml import parse_yaml

_SECTIONS = ("model", "data", "objective", "train", "engine")
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_WIDTH = 110


@dataclass(frozen=True)
class Migration:
    """A recipe made of a file of another tool. Every key of the file stands in one of the first four groups.

    Attributes:
        values: The recipe as plain data; `penchant.config.build_config` takes it.
        taken: Keys whose value stands in it.
        needless: Keys that need no setting here.
        placed: Keys that go to the command line.
        lost: Keys that cannot be expressed, or only nearly, each with the reason or the nearest thing.
        unsaid: Keys that the file leaves to the tool's default, which is not ours.
        prepare: The command that prepares the data.
        dialect: The tool.
    """

    values: dict[str, dict[str, Any]]
    taken: tuple[Note, ...]
    needless: tuple[Note, ...]
    placed: tuple[Note, ...]
    lost: tuple[Note, ...]
    unsaid: tuple[Note, ...]
    prepare: str
    dialect: Dialect

    def groups(self) -> list[tuple[str, tuple[Note, ...]]]:
        """Return the lines about keys under a heading each, what matters most first; empty groups are left out."""
        found = [
            ("Cannot be expressed, or only nearly", self.lost),
            (f"Not said in the file, and {self.dialect.full_name}'s default is not ours", self.unsaid),
            ("Goes to the command line", self.placed),
            ("Needs no setting here", self.needless),
            ("Taken over", self.taken),
        ]
        return [(title, notes) for title, notes in found if notes]


def account_of(file: TrlFile, notes: Notes, prepare: str) -> Migration:
    """Return the recipe and the account, after every conversion has said what it has to say.

    A key that several lines are about gets one line in the group that asks most of the reader.

    Args:
        file: What was read.
        notes: What the conversions wrote and said.
        prepare: The command that prepares the data.

    Raises:
        UsageError: The recipe is no valid configuration.
    """
    for key in file.said:
        if key not in notes.keys():
            _by_table(file, notes, key)
    for key, hint in file.unknown.items():
        notes.missing(key, hint)
    _unsaid_apart(file, notes)
    ordered = {name: notes.values[name] for name in _SECTIONS if name in notes.values}
    build_config(ordered, where=file.where)
    lost, placed, taken, needless = _one_group_each((notes.lost, notes.placed, notes.taken, notes.needless))
    unsaid = tuple(_merged(notes.unsaid))
    groups = (taken, needless, placed, lost, unsaid)
    return Migration(ordered, *(_named(file, group) for group in groups), prepare=prepare, dialect=file.dialect)


def migration_text(migration: Migration, source: str) -> str:
    """Return the recipe as YAML, with a line in a comment about every key that did not find its way into it.

    Args:
        migration: What the file came to.
        source: The name of the file that it was made of.

    Raises:
        UsageError: A value cannot be written as YAML that reads back the same.
    """
    lines = _comment(f"Made from the {migration.dialect.tool} configuration {source} by `penchant migrate`.")
    for title, notes in migration.groups():
        if notes is not migration.taken:
            lines += _comment(f"{title}:")
            lines += [line for note in notes for line in _comment(f"  {note.key}: {note.text}")]
    lines += _comment("In every run:")
    lines += [line for text in migration.dialect.always for line in _comment(f"  {text}")]
    for section, options in migration.values.items():
        lines.append(f"{section}:")
        lines += [f"  {option}: {_scalar(value)}" for option, value in options.items()]
    text = "\n".join(lines) + "\n"
    if parse_yaml(text, where=source) != migration.values:
        raise UsageError("a value of it cannot be written as YAML that reads back the same", where=source)
    return text


def _unsaid_apart(file: TrlFile, notes: Notes) -> None:
    """Let the groups of the file's keys speak of no other; what is lost of a default is said with the defaults."""
    known = {*file.said, *file.unknown}
    notes.unsaid += [note for note in notes.lost if note.key not in known]
    for group in (notes.lost, notes.placed, notes.taken, notes.needless):
        group[:] = [note for note in group if note.key in known]


def _by_table(file: TrlFile, notes: Notes, key: str) -> None:
    """Say what the table says of a key that no conversion has spoken about."""
    value, known = file.said[key], file.dialect.key(key)
    is_old = key not in file.dialect.keys
    old = f"no longer in {file.tool}; " if is_old else ""
    if value is None or (not is_old and value == known.default):
        notes.anyway(key, f"{file.tool}'s default")
    elif known.fate == "elsewhere":
        notes.elsewhere(key, old + known.why)
    elif known.fate == "anyway" or (is_old and value is False):
        notes.anyway(key, old + known.why)
    else:
        notes.missing(key, old + (known.why or f"{shown(value)}: Penchant does not use it here"))


def _one_group_each(groups: Sequence[Sequence[Note]]) -> list[tuple[Note, ...]]:
    """The groups, most weighty first, with each key in the first that has it, and all that is said of it there."""
    texts = _merged(note for group in groups for note in group)
    by_key = {note.key: note for note in texts}
    found: list[tuple[Note, ...]] = []
    seen: set[str] = set()
    for group in groups:
        keys = [key for key in dict.fromkeys(note.key for note in group) if key not in seen]
        seen.update(keys)
        found.append(tuple(by_key[key] for key in keys))
    return found


def _merged(notes: Iterable[Note]) -> list[Note]:
    """One line a key, in the order of their first."""
    texts: dict[str, list[str]] = {}
    for note in notes:
        if note.text not in texts.setdefault(note.key, []):
            texts[note.key].append(note.text)
    return [Note(key, "; ".join(lines)) for key, lines in texts.items()]


def _named(file: TrlFile, notes: Iterable[Note]) -> tuple[Note, ...]:
    """The notes with the names that stand in the file, or that its tool has."""
    return tuple(Note(file.name(note.key), note.text) for note in notes)


def _comment(text: str) -> list[str]:
    """A text as comment lines; what follows the first is indented further."""
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    indent = " " * (len(text) - len(text.lstrip()))
    lines = textwrap.wrap(text, _WIDTH, initial_indent="", subsequent_indent=f"{indent}  ", break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _scalar(value: Any) -> str:
    """A value in YAML's flow form, which JSON is, but plain where that reads the same."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and parse_yaml(value, where="value") == value:
        return value
    return json.dumps(value, ensure_ascii=False)
