"""A TRL configuration file as its own reader takes it: typed values, TRL's defaults, and the names of keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from penchant.errors import UsageError, did_you_mean
from penchant.recipes.trl.keys import KEYS, OLD_KEYS, RENAMED, TRL_VERSION

_WORDS = {
    "yes": True,
    "on": True,
    "true": True,
    "no": False,
    "off": False,
    "false": False,
}  # YAML 1.1, as TRL reads


class TrlFile:
    """What a file says, and TRL's defaults for the rest.

    Args:
        values: The file as plain data.
        where: What errors call it.

    Attributes:
        said: What the file says, by today's names; null counts as not said, as it does in TRL for almost every
            key.
        old_names: The older name that the file uses, by today's name.
        unknown: Keys that TRL has never had, with what may have been meant.

    Raises:
        UsageError: It is no mapping, or says a thing by both its names.
    """

    def __init__(self, values: Any, where: str) -> None:
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise UsageError("a TRL configuration is a mapping from keys to values", where=where)
        self.where = where
        self.said: dict[str, Any] = {}
        self.old_names: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        name: str
        for name, value in values.items():
            key = RENAMED.get(name, name)
            if key != name and key in values:
                raise UsageError(f"{name} is an older name of {key}, and both are there; remove one", where=where)
            if key != name:
                self.old_names[key] = name
            if key in KEYS or key in OLD_KEYS:
                self.said[key] = value
            else:
                self.unknown[key] = _hint(key)

    def has(self, key: str) -> bool:
        """Return whether the file gives a value to a key."""
        return self.said.get(key) is not None

    def get(self, key: str) -> Any:
        """Return the value of a key, or TRL's default."""
        if self.has(key):
            return self.said[key]
        return (KEYS.get(key) or OLD_KEYS[key]).default

    def number(self, key: str) -> float:
        """Return a number.

        Raises:
            UsageError: The value is none.
        """
        return self.as_number(key, self.get(key))

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
        """Return true or false; TRL's reader takes yes, no, on and off as such too.

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
        """Return a word; what TRL's reader makes false of, `no`, is the word "no".

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
        return UsageError(f"{key} = {self.get(key)!r}: {wanted} is expected", where=self.where)


def _hint(key: str) -> str:
    hint = did_you_mean(key, [*KEYS, *OLD_KEYS])
    return f"not a TRL {TRL_VERSION} DPOConfig key.{hint if 'Did you mean' in hint else ''}"
