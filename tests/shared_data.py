"""The folder of real rows, which is no part of the project: tests that want it skip where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "data"
FOLDER = Path(os.environ.get("PENCHANT_SHARED_DATA") or _BESIDE)


def shared_file(name: str) -> Path:
    """Return a file or folder of real rows by its name in the folder, or skip the test that asks for it."""
    path = FOLDER / name
    if not path.exists():
        # the rows are not ours to ship; made-up ones prove the same rules everywhere, these are extra cases
        pytest.skip(f"needs the real rows of {name}")
    return path
