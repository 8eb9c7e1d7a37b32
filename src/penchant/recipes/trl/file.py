"""A configuration file as its tool's own reader takes it: typed values, the tool's defaults, in TRL's terms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from penchant.errors import UsageError, did_you_mean
from penchant.recipes.trl.dialect import TRL, Dialect

_WORDS = {
    "yes": True,
    "on": True,
    "true": True,
    "no": False,
    "off": False,
    "false": False,
}  # YAML 1.1, as these tools read


class TrlFile:
    """What a file says, and its tool's defaults for the rest.

    Args:
        values: The file as plain data.
        where: What errors call it.
        dialect: The tool that it was written for.

    Attributes:
        dialect: See above.
        said: What the file says, by TRL's names of today; null counts as not said, as it does in these tools for
            almost every key.
        assumed: What follows from other keys of the file and takes the place of the tool's default.
        own_names: What the file calls a key, by that name, where it is another.
        unknown: Keys that the tool has never had, with what may have been meant.

    Raises:
        UsageError: It is no mapping, or says a thing by both its names.
    """

    def __init__(self, values: Any, where: str, dialect: Dialect = TRL) -> None:
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise UsageError(f"a {dialect.tool} configuration is a mapping from keys to values", where=where)
        self.where = where
        self.dialect = dialect
        self.said: dict[str, Any] = {}
        self.assumed: dict[str, Any] = {}
        self.own_names: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        accepted = dialect.accepted
        for name, value in values.items():
            today = dialect.older.get(name, name)
            if today != name and today in values:
                raise UsageError(
                    f"{name} is an older name of {today}, and both are there; remove one", where=where
                )
            key = dialect.names.get(today, today)
            if today not in accepted:
                self.unknown[str(name)] = self._hint(str(name))
                continue
            if key != name:
                self.own_names[key] = name
            self.said[key] = value

    @property
    def tool(self) -> str:
        """The tool's name in sentences."""
        return self.dialect.tool

    def name(self, key: str) -> str:
        """Return what the file, or else its tool, calls a key that is given by TRL's name."""
        return self.own_names.get(key) or self.dialect.own_name(key)

    def has(self, key: str) -> bool:
        """Return whether the file gives a value to a key."""
        return self.said.get(key) is not None

    def get(self, key: str) -> Any:
        """Return the value of a key, or the tool's default."""
        if self.has(key):
            return self.said[key]
        if key in self.assumed:
            return self.assumed[key]
        return self.dialect.key(key).default

    def number(self, key: str) -> float:
        """Return a number.

        Raises:
            UsageError: The value is none.
        """
        return self.as_number(self.name(key), self.get(key))

    def as_number(self, name: str, value: Any) -> float:
        """Return a value that stands somewhere in the file as a finite number; text that reads as one counts.

        Raises:
            UsageError: It is none.
        """
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (OverflowError, TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{name} = {value!r}: a number is expected", where=self.where)
        return number

    def count(self, key: str) -> int:
        """Return a whole number.

        Raises:
            UsageError: The value is none.
        """
        number = self.number(key)
        if not number.is_integer():
            raise self._wrong(key, "a whole number")
        return int(number)

    def flag(self, key: str) -> bool:
        """Return true or false; these tools take yes, no, on and off as such too.

        Raises:
            UsageError: The value is neither.
        """
        value = self.get(key)
        value = (
            _WORDS.get(value.lower(), value) if isinstance(value, str) else bool(value) if value is None else value
        )
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def word(self, key: str) -> str:
        """Return a word; what a YAML 1.1 reader makes false of, `no`, is the word "no".

        Raises:
            UsageError: The value is none.
        """
        value = self.get(key)
        if value is False:
            return "no"
        if not isinstance(value, str):
            raise self._wrong(key, "a word")
        return value

    def listed(self, key: str) -> list[Any]:
        """Return a list; a single value is a list of one, null an empty one."""
        value = self.get(key)
        return [] if value is None else list(value) if isinstance(value, list) else [value]

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return a mapping; null is an empty one.

        Raises:
            UsageError: The value is none.
        """
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(key, "a mapping")
        return value

    def _wrong(self, key: str, wanted: str) -> UsageError:
        return UsageError(f"{self.name(key)} = {self.get(key)!r}: {wanted} is expected", where=self.where)

    def _hint(self, name: str) -> str:
        hint = did_you_mean(name, self.dialect.accepted)
        meant = hint if "Did you mean" in hint else ""
        return f"not a key of {self.dialect.full_name}.{meant}"
