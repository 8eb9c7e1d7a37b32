"""The packaged preference task: questions, and on-policy pairs of the bundled model, as data files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from penchant.errors import UsageError

_NAMES = ("train_questions", "validation_questions", "test_questions", "pairs", "test_pairs")


def house_style_file(name: str) -> Path:
    """Return the path of a packaged file by its name, such as "test_questions".

    Raises:
        UsageError: There is no such file.
    """
    path = Path(str(files("penchant.data.house_style").joinpath(f"{name}.jsonl")))
    if name not in _NAMES or not path.is_file():
        raise UsageError(f'there is no packaged file "{name}"', fix=f"Known: {', '.join(_NAMES)}.")
    return path
