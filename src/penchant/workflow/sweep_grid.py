"""The runs of a sweep: every combination of a grid's values, each a whole configuration that was checked."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import Config, build_config
from penchant.errors import UsageError
from penchant.recipes import read_recipe
from penchant.strict_yaml import parse_yaml

DATA_FOLDER = "data"
VALIDATION = "validation"
_SLUG_CHARACTERS = 60

# What all runs of a sweep must have in common, or their figures could not be compared.
_ONE_FOR_ALL = {
    "model.path": "runs that start from different models have no KL to a reference in common",
    "model.architecture": "runs that start from different models have no KL to a reference in common",
    "model.reference": "runs with different references have no KL in common",
    "data.exclude": "all runs are trained and judged on the same sets of pairs",
    "data.format": "all runs are judged on the same prompts in the same form",
    "train.evaluate_data": "a sweep holds back the pairs on which its runs are validated",
}


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """A run of a sweep.

    Attributes:
        name: What differs from the other runs, such as "beta=0.1"; made of what was typed.
        folder: Name of its folder, made of its number and harmless characters alone.
        settings: The values of the grid's keys.
        config: Its whole configuration.
    """

    name: str
    folder: str
    settings: dict[str, Any]
    config: Config


def parse_grid(options: Sequence[str]) -> list[Axis]:
    """Return the axes that `section.key=value,value` options name.

    Raises:
        UsageError: One is not of this form, a key or a value stands twice, or all runs must have the key in
            common.
    """
    axes = [_parse_axis(option) for option in options]
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"--grid {key} is given twice", fix="Write all its values in one, with commas.")
    if not axes:
        raise UsageError(
            "there is nothing to sweep", fix="Give a grid, such as --grid objective.beta=0.05,0.1,0.3."
        )
    return axes


def _parse_axis(option: str) -> Axis:
    key, equals, text = option.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not equals or not text.strip() or len(parts) != 2 or not all(parts):
        raise UsageError(f'--grid {option}: write section.key=value,value, as in "objective.beta=0.05,0.1,0.3"')
    where = f"--grid {key}"
    if key in _ONE_FOR_ALL:
        raise UsageError("it cannot be swept: " + _ONE_FOR_ALL[key], where=where)
    values = parse_yaml(f"[{text}]", where=where)
    for place, value in enumerate(values):
        if value in values[:place]:
            raise UsageError(f"the value {_shown(value)} stands twice", where=where)
    return Axis(key, tuple(values))


def sweep_points(recipe: str, sets: Sequence[str], axes: Sequence[Axis], out: Path) -> list[Point]:
    """Return the runs, the last axis changing fastest.

    A run that validates while it trains does so on the pairs that the sweep holds back (`out`/data).

    Args:
        recipe: Name of a packaged recipe, or a YAML file.
        sets: `section.key=value` for all runs.
        axes: From `parse_grid`.
        out: The sweep's folder.

    Raises:
        UsageError: There is no such recipe, or the configuration of a run is not valid; the run is named.
    """
    values, where = read_recipe(recipe)
    if isinstance(values, dict) and "stages" in values:
        raise UsageError("this recipe has stages", where=where, fix="Sweep the recipe of one of them.")
    for axis in axes:
        if any(text.partition("=")[0].strip() == axis.key for text in sets):
            raise UsageError(f"{axis.key} is given by --set and by --grid", fix="Remove one of them.")
    combinations = list(itertools.product(*(axis.values for axis in axes)))
    points = []
    for number, combination in enumerate(combinations, start=1):
        settings = dict(zip((axis.key for axis in axes), combination, strict=True))
        name = ", ".join(f"{_short(key, axes)}={_shown(value)}" for key, value in settings.items())
        folder = f"{number:0{len(str(len(combinations)))}}-{_slug(name)}".rstrip("-")
        config = build_config(_with(values, settings), sets, where=f"{where}, run {number} ({name})")
        points.append(Point(name, folder, settings, _checked(config, name, out)))
    return points


def _with(values: Any, settings: dict[str, Any]) -> Any:
    changed = copy.deepcopy({} if values is None else values)
    for key, value in settings.items():
        section, name = key.split(".")
        if isinstance(changed, dict) and isinstance(changed.setdefault(section, {}), dict):
            changed[section][name] = value  # what is no mapping is refused when the configuration is built
    return changed


def _checked(config: Config, name: str, out: Path) -> Config:
    if list(config.objective.losses) == ["sft"]:
        raise UsageError(
            'a sweep judges preferences, and objective.loss "sft" learns none',
            where=name,
            fix="Choose another loss.",
        )
    if config.train.evaluate_data is not None:
        raise UsageError(_ONE_FOR_ALL["train.evaluate_data"], where="train.evaluate_data", fix="Remove it.")
    if config.train.evaluate_every is None:
        return config
    held_back = str((out / DATA_FOLDER / f"{VALIDATION}.jsonl").resolve())  # the same from any folder
    return config.model_copy(update={"train": config.train.model_copy(update={"evaluate_data": held_back})})


def _short(key: str, axes: Sequence[Axis]) -> str:
    last = key.rpartition(".")[2]
    return last if sum(axis.key.rpartition(".")[2] == last for axis in axes) == 1 else key


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _slug(name: str) -> str:
    """Letters, digits, points inside and dashes; the number before it keeps two of them apart."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[:_SLUG_CHARACTERS].strip("-.")
