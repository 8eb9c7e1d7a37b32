"""A tool whose configuration says what TRL's says, by names and defaults of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penchant.recipes.trl.keys import KEYS, OLD_KEYS, RENAMED, TRL_VERSION, Key


@dataclass(frozen=True)
class Dialect:
    """How a tool's file is put into TRL's terms.

    Attributes:
        tool: Its name in sentences.
        version: Of the tool whose keys these are.
        keys: Every key that is understood, by TRL's name where TRL has the thing, with this tool's default.
        old: Keys of earlier versions.
        older: Older names of keys, by today's name.
        names: The tool's names of keys that TRL has by another name; TRL's name is then no key of the tool's.
        always: What differs from the tool in every run, beyond any key.
    """

    tool: str
    version: str
    keys: Mapping[str, Key]
    old: Mapping[str, Key] = field(default_factory=dict)
    older: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    always: tuple[str, ...] = ()

    @property
    def accepted(self) -> set[str]:
        """The names that a file may use, older ones left out."""
        return {*self.names, *({*self.keys, *self.old} - set(self.names.values()))}

    def key(self, name: str) -> Key:
        """Return what is known of a key, by TRL's name; what the tool has no key for is as TRL has it."""
        return self.keys.get(name) or self.old.get(name) or KEYS.get(name) or OLD_KEYS[name]

    def own_name(self, name: str) -> str:
        """Return the tool's name of a key that is given by TRL's."""
        return next((own for own, theirs in self.names.items() if theirs == name), name)

    @property
    def full_name(self) -> str:
        """Name and version, as headings and errors have it."""
        return f"{self.tool} {self.version}".strip()


TRL = Dialect(
    "TRL",
    TRL_VERSION,
    KEYS,
    OLD_KEYS,
    RENAMED,
    always=(
        "The learning rate is one step ahead of TRL's, whose first step of a warm-up has the rate 0.",
        "The order of the pairs is another one, whatever the seed.",
        "Rows whose prompt is a string are put into the chat template here; TRL takes them as they are: for that "
        "set data.format to plain.",
    ),
)
