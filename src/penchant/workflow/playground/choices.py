"""Who can be asked: the finished runs of a folder, and models that were named. Nothing is loaded for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.config import build_config
from penchant.errors import PenchantError
from penchant.strict_yaml import read_yaml
from penchant.web.playground_talk import Choice

MOST_DEPTH = 4  # folders below the one that is looked through, as in SWEEP/RUN/2-dpo
_OF_A_RUN = frozenset({"checkpoints", "reference", "model", "adapter", "eval", "samples"})


def find_choices(runs: Path | None, models: Sequence[str]) -> list[Choice]:
    """Return the models that were named, then the runs with a model in or below a folder, the newest first."""
    named = [_choice(Path(model), model) for model in models]
    found = [] if runs is None else sorted(finished_runs(runs), key=_age)
    theirs = [_choice(run, _name(run, runs)) for run in found if runs is not None]
    return list({choice.name: choice for choice in reversed([*named, *theirs])}.values())[::-1]


def finished_runs(folder: Path) -> Iterator[Path]:
    """Yield the folders with a configuration and a model; links are not followed."""
    top = len(folder.parts)
    for place, names, files in os.walk(folder):
        here = Path(place)
        if "config.yaml" in files and "model" in names:
            yield here
        deep = len(here.parts) - top >= MOST_DEPTH
        names[:] = [] if deep else sorted(one for one in names if one not in _OF_A_RUN and not one.startswith("."))


def run_values(run: Path) -> Mapping[str, Any]:
    """Return the configuration of a run as plain data, without its circumstances; {} when it cannot be read."""
    try:
        values = read_yaml(run / "config.yaml")
        values.pop("run", None)
        return build_config(values).resolved()
    except PenchantError:  # said in full by whoever asks it: a list of runs does not fail for one of them
        return {}


def _choice(path: Path, name: str) -> Choice:
    if not ((path / "config.yaml").is_file() and (path / "model").is_dir()):
        return Choice(name, str(path) if path.exists() else name)
    values = run_values(path)
    model, objective = values.get("model", {}), values.get("objective", {})
    return Choice(name, str(path), model.get("reference") or model.get("path"), objective.get("beta"))


def _name(run: Path, runs: Path) -> str:
    inside = run.relative_to(runs)
    return str(inside) if inside.parts else run.resolve().name


def _age(run: Path) -> tuple[float, str]:
    try:
        return -(run / "config.yaml").stat().st_mtime, str(run)
    except OSError:  # removed since
        return 0.0, str(run)
