"""The packaged recipes: YAML files that hold a whole configuration, by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from penchant.config import Config, build_config
from penchant.errors import UsageError, did_you_mean
from penchant.strict_yaml import parse_yaml, read_yaml


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes."""
    return sorted(
        item.name.removesuffix(".yaml")
        for item in files("penchant.recipes").iterdir()
        if item.name.endswith(".yaml")
    )


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a packaged recipe or of a YAML file, with overrides applied.

    Raises:
        UsageError: There is no such recipe or file, it is not valid, or it has stages.
    """
    values, where = read_recipe(name_or_path)
    if isinstance(values, dict) and "stages" in values:
        fix = f"Run it with `penchant align {name_or_path}`."
        raise UsageError("this recipe has stages", where=where, fix=fix)
    return build_config(values, overrides, where=where)


def read_recipe(name_or_path: str) -> tuple[Any, str]:
    """Return the plain data of a packaged recipe or of a YAML file, and what errors call it.

    Raises:
        UsageError: There is no such recipe or file, or it is not YAML.
    """
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        return read_yaml(Path(name_or_path)), name_or_path
    where = f"recipe {name_or_path}"
    return parse_yaml(recipe_text(name_or_path), where=where), where


def recipe_text(name: str) -> str:
    """Return the YAML of a packaged recipe as it stands in its file.

    Raises:
        UsageError: There is no such recipe.
    """
    if name not in recipe_names():
        raise UsageError(
            f'there is no recipe "{name}".{did_you_mean(name, recipe_names())}',
            fix="Name a packaged recipe, or a YAML file by its path.",
        )
    return files("penchant.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
