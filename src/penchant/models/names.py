"""Patterns that name parts of a model, as a user writes them.

A pattern is a glob over names with dots: `*` any text, dots included, `?` one character, `[0-9]` one of these. It
names whatever has it as a run of whole parts of its name: `q_proj`, `layers.2[0-9].mlp` and
`model.layers.29.mlp.up_proj` all do, `proj` does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from penchant.errors import UsageError, did_you_mean

_MOST_HINTED = 200  # characters: a large model has hundreds of names


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern is a run of whole parts of a name with dots."""
    return fnmatchcase(f".{name}.", f"*.{pattern}.*")


def match_all(patterns: Sequence[str], names: Iterable[str], *, where: str, what: str) -> list[str]:
    """Return the names that at least one of the patterns names, in their order.

    Args:
        patterns: What the user wrote.
        names: What there is.
        where: The option that holds the patterns.
        what: What a name belongs to, in words.

    Raises:
        UsageError: A pattern names nothing; the nearest names are told.
    """
    known = list(names)
    for pattern in patterns:
        if not any(matches(pattern, name) for name in known):
            hint = did_you_mean(pattern, _runs(known))[:_MOST_HINTED]
            raise UsageError(
                f'"{pattern}" names no {what}.{hint}',
                where=where,
                fix="A pattern is a glob over whole parts of names, such as q_proj or layers.2[0-9].mlp.",
            )
    return [name for name in known if any(matches(pattern, name) for pattern in patterns)]


def _runs(names: Iterable[str]) -> set[str]:
    """What one may have meant: single parts that are words, and every beginning of a name."""
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        found.update(part for part in parts if not part.isdigit())
        found.update(".".join(parts[:end]) for end in range(2, len(parts) + 1))
    return found
