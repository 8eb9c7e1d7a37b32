"""Run directories written by hand, as a run would have left them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.made_runs import lines_of

STATUS = {"state": "finished", "phase": "training", "step": 40, "total_steps": 40, "reason": None}


def write_run(
    path: Path,
    *,
    steps: Sequence[Mapping[str, Any]] | None = None,
    pairs: Sequence[Mapping[str, Any]] | None = None,
    config: str = "model:\n  path: bundled\n",
    **status: Any,
) -> Path:
    """Write a run of 40 steps and return its directory; each further argument replaces a value of its status."""
    own_steps, own_pairs = lines_of()
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(config, encoding="utf-8")
    write_status(path, **status)
    write_lines(path / "metrics.jsonl", own_steps if steps is None else steps)
    write_lines(path / "pairs.jsonl", own_pairs if pairs is None else pairs)
    return path


def write_status(path: Path, **changes: Any) -> None:
    """Write `status.json`."""
    (path / "status.json").write_text(json.dumps({**STATUS, **changes}), encoding="utf-8")


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]], *, more: bool = False) -> None:
    """Write rows as lines, or append them."""
    with path.open("a" if more else "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_object(path: Path, found: Mapping[str, Any]) -> None:
    """Write a JSON file of a run, with its folder."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found), encoding="utf-8")
