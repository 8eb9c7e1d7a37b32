"""What is written into a recipe while a TRL file is read, and what is to be said about every key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from penchant.recipes.trl.file import TrlFile


@dataclass(frozen=True)
class Note:
    """A line about a key.

    Attributes:
        key: TRL's.
        text: What became of it.
    """

    key: str
    text: str


@dataclass
class Notes:
    """The recipe so far, and the lines about keys in the order in which they came up.

    Attributes:
        values: The recipe: sections of options.
        taken: Keys whose value stands in the recipe.
        needless: Keys that need no setting.
        placed: Keys that go to the command line.
        lost: Keys that cannot be expressed, or only nearly.
        unsaid: Keys that the file leaves to TRL's default, which is not ours.
    """

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: list[Note] = field(default_factory=list)
    needless: list[Note] = field(default_factory=list)
    placed: list[Note] = field(default_factory=list)
    lost: list[Note] = field(default_factory=list)
    unsaid: list[Note] = field(default_factory=list)

    def write(self, trl: TrlFile, key: str, option: str, value: Any, *, ours: Any, how: str = "") -> None:
        """Set an option of the recipe to what a key says, or to the tool's default where that is not ours.

        Args:
            trl: The file.
            key: TRL's key.
            option: Ours, section.name.
            value: Of our option.
            ours: Our default for it; what is not said and equal to it is not written.
            how: What was converted, if anything, or what the tool's default means.
        """
        if not trl.has(key) and value == ours and type(value) is type(ours):
            return
        section, name = option.split(".")
        self.values.setdefault(section, {})[name] = value
        if trl.has(key):
            self.converted(key, f"{option} = {shown(value)}" + (f" ({how})" if how else ""))
        else:
            own = "none" if ours is None else shown(ours)
            default = shown(trl.get(key)) + (f" ({how})" if how else "")
            self.unsaid.append(Note(key, f"{trl.tool}'s default is {default}, ours {own}; {option} written"))

    def converted(self, key: str, text: str) -> None:
        """Note that a key's value stands in the recipe."""
        self.taken.append(Note(key, text))

    def anyway(self, key: str, text: str) -> None:
        """Note that a key needs no setting."""
        self.needless.append(Note(key, text))

    def elsewhere(self, key: str, text: str) -> None:
        """Note that a key goes to the command line."""
        self.placed.append(Note(key, text))

    def missing(self, key: str, text: str) -> None:
        """Note that a key cannot be expressed, or only nearly."""
        self.lost.append(Note(key, text))

    def unsaid_only(self, key: str, text: str) -> None:
        """Note how a default of TRL's, which the file does not say, differs from ours."""
        self.unsaid.append(Note(key, text))

    def keys(self) -> set[str]:
        """Return every key that something was said about."""
        return {note.key for notes in (self.taken, self.needless, self.placed, self.lost) for note in notes}


def shown(value: Any) -> str:
    """Return a value as YAML has it, on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
