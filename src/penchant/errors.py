"""Every error that a user of Penchant can meet, and the exit code each one ends the command with.

    PenchantError            1   something Penchant can explain
    +-- UsageError           2   a wrong option, recipe key or combination of them
    +-- DataError            3   preference data that cannot be used as it is
    +-- ModelError           4   a model, tokenizer or checkpoint that cannot be used
    +-- NotFiniteError      10   a loss or gradient that is not a number
    +-- DiskError           13   no room, or no permission, to write
    +-- Stopped             75   ended by a signal; what was saved can be resumed

A second Ctrl+C ends at once with code 130, a second SIGTERM with 143 and a second SIGHUP with 129 (128 + the
number of the signal, as shells count). Only these errors are shown without a traceback; anything else is a defect
of Penchant, ends with code 1 and says where its traceback was written.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

EXIT_DEFECT = 1
EXIT_BY_SIGNAL = 128  # and the number of the signal


class PenchantError(Exception):
    """An error with a place, a reason and a remedy.

    Args:
        what: What is wrong, one sentence.
        where: File, line or option that it concerns, when there is one.
        fix: What the user can do about it, one sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.fix}" if self.fix else head


class UsageError(PenchantError):
    """A wrong option, recipe key, or combination of them."""

    exit_code = 2


class DataError(PenchantError):
    """Preference data that cannot be used as it is."""

    exit_code = 3


class ModelError(PenchantError):
    """A model, tokenizer or checkpoint that cannot be used."""

    exit_code = 4


class NotFiniteError(PenchantError):
    """A loss or gradient that is not a finite number; no weight was changed by it.

    Args:
        what: What is wrong, one sentence.
        where: File, line or option that it concerns, when there is one.
        fix: What the user can do about it, one sentence.
        pairs: Ids of all pairs whose own loss is not finite.
    """

    exit_code = 10

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, pairs: Sequence[str] = ()
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.pairs = tuple(pairs)


class DiskError(PenchantError):
    """No room, or no permission, to write."""

    exit_code = 13


class Stopped(PenchantError):
    """Ended by a signal at a point from which the run can be resumed."""

    exit_code = 75


_MOST_NAMED = 40  # names of one kind of thing; a folder may hold thousands of files


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean "x"?' for the nearest known name, or the known names when none is near.

    The result starts with a space, so it can follow a sentence; it is empty when nothing is known.
    """
    names = sorted(known)
    if near := nearest(word, names):
        return f' Did you mean "{near}"?'
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f" Known: {', '.join(names[:_MOST_NAMED])}{rest}." if names else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known name that is most like a word; empty when none is like it."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return near[0] if near else ""
