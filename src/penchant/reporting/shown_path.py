"""Paths as others may see them."""

from __future__ import annotations

from pathlib import Path


def shown_path(path: str) -> str:
    """Return the last two parts of an absolute path, which would tell of someone's machine; others as they are."""
    found = Path(path)
    return str(Path(*found.parts[-2:])) if found.is_absolute() else path
