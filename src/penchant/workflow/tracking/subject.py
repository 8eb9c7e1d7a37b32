"""What a tracker is told of a run beside its figures: a name, a group, its configuration without its places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.errors import UsageError
from penchant.reporting.shown_path import shown_path
from penchant.strict_yaml import read_yaml

_STAGE = re.compile(r"\d+-.+")  # of penchant align
_TOLD = ("versions", "device", "precision", "processes", "data_fingerprint", "weights", "parallel", "limit")


@dataclass(frozen=True)
class Subject:
    """A run as a tracker is told of it.

    Attributes:
        run: Its directory, absolute.
        name: Of the folder; of a stage, round, run of a sweep or control with what it belongs to before it.
        group: What it belongs to, None for a run of its own.
        config: By section, plain data; of absolute paths the last two parts.
    """

    run: Path
    name: str
    group: str | None
    config: dict[str, Any]

    def flat_config(self) -> dict[str, Any]:
        """Return the configuration as `section.key`; what is a list stands as text."""
        return dict(_flat(self.config))


def subject_of(run: Path) -> Subject:
    """Return what is told of a run.

    Raises:
        UsageError: There is no run, or its `config.yaml` cannot be read.
    """
    if not (run / "config.yaml").is_file():
        raise UsageError("there is no run here: no config.yaml", where=str(run), fix="Name a run directory.")
    values = read_yaml(run / "config.yaml")
    facts = values.pop("run", None)
    facts = facts if isinstance(facts, Mapping) else {}
    told = {**values, "run": {key: facts[key] for key in _TOLD if key in facts}}
    name, group = name_and_group(run.resolve())
    return Subject(run.resolve(), name, group, _without_places(told))


def name_and_group(run: Path) -> tuple[str, str | None]:
    """Return what a run is called, and what it belongs to.

    Args:
        run: Its directory, absolute.
    """
    folder, above = run.parent, run.parent.parent
    if (folder / "sweep.json").is_file() or _STAGE.fullmatch(run.name):
        return f"{folder.name}-{run.name}", folder.name
    if run.name == "train" and (above / "online.json").is_file():
        return f"{above.name}-{folder.name}", above.name
    if folder.name == "controls":
        return f"{above.name}-{run.name}", above.name
    return run.name, None


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_places(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    return shown_path(value) if isinstance(value, str) else value


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{key}.")
        elif isinstance(value, list):
            found.append((f"{before}{key}", ", ".join(map(str, value))))
        else:
            found.append((f"{before}{key}", value))
    return found
