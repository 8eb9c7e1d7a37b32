"""Recipes of several stages, each of which starts from the model of the one before.

    model: {path: bundled}          sections that hold for every stage
    data: {max_tokens: 512}
    stages:                         in their order; what a stage says itself goes before
      sft: {objective: {loss: sft}, train: {learning_rate: 2e-5}}
      dpo: {objective: {loss: dpo}, train: {learning_rate: 1e-6}}

A stage's name becomes a part of the name of its run directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penchant.config import Config, build_config
from penchant.errors import UsageError, did_you_mean
from penchant.recipes import read_recipe

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")  # it becomes a folder


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe.

    Attributes:
        name: What the recipe calls it.
        config: Its configuration; of all but the first, `model.path` is not yet known.
    """

    name: str
    config: Config


def has_stages(name_or_path: str) -> bool:
    """Return whether a packaged recipe or a YAML file has stages.

    Raises:
        UsageError: There is no such recipe or file, or it is not YAML.
    """
    values, _ = read_recipe(name_or_path)
    return isinstance(values, dict) and "stages" in values


def load_stages(name_or_path: str, overrides: Sequence[str] = ()) -> list[Stage]:
    """Return the stages of a packaged recipe or of a YAML file, in their order, with overrides applied.

    Args:
        name_or_path: Which recipe.
        overrides: `section.key=value` for every stage, `stage.section.key=value` for one; the latter wins.

    Raises:
        UsageError: There is no such recipe, it has no stages, or one of them is not valid.
    """
    values, where = read_recipe(name_or_path)
    if not isinstance(values, dict) or "stages" not in values:
        fix = f"Run it with `penchant train {name_or_path}`."
        raise UsageError("this recipe has no stages", where=where, fix=fix)
    common = {name: section for name, section in values.items() if name != "stages"}
    stages = _checked(values["stages"], where)
    shared, own = _by_stage(overrides, list(stages))
    return [
        Stage(
            name,
            build_config(_merged(common, stage), [*shared, *own[name]], where=f"{where}, stage {name}"),
        )
        for name, stage in stages.items()
    ]


def _checked(stages: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(stages, dict) or not stages:
        raise UsageError("`stages` is a mapping from names to sections, in the order of the work", where=where)
    for number, (name, stage) in enumerate(stages.items()):
        if not _NAME.fullmatch(name):
            raise UsageError(f'"{name}" is no name for a stage: small letters, digits, - and _', where=where)
        if not isinstance(stage, dict):
            raise UsageError(f"stage {name} is a mapping of sections", where=where)
        model = stage.get("model")
        if number and isinstance(model, dict) and "path" in model:
            raise UsageError(
                f"stage {name} starts from the model of the stage before it; remove its model.path", where=where
            )
    return stages


def _by_stage(overrides: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides for all stages, and those for each."""
    shared: list[str] = []
    own: dict[str, list[str]] = {name: [] for name in names}
    for override in overrides:
        key, _, _ = override.partition("=")
        stage, _, rest = override.partition(".")
        if key.count(".") < 2:
            shared.append(override)
        elif stage in own:
            own[stage].append(rest)
        else:
            raise UsageError(f"--set {override}: there is no stage {stage}.{did_you_mean(stage, names)}")
    return shared, own


def _merged(common: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    merged = dict(common)
    for name, section in stage.items():
        known = common.get(name)
        merged[name] = {**known, **section} if isinstance(known, dict) and isinstance(section, dict) else section
    return merged
