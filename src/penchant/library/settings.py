"""Configurations as a caller in Python gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penchant.config import Config, build_config
from penchant.errors import UsageError
from penchant.recipes import load_recipe

Settings = Config | Mapping[str, Any] | str | Path | None
"""A configuration; its sections as a mapping; a packaged recipe's name or a YAML file; None = all defaults."""


def config_of(settings: Settings) -> Config:
    """Return the configuration that settings stand for.

    Raises:
        UsageError: They are no valid configuration.
    """
    if isinstance(settings, Config):
        return settings
    if isinstance(settings, str | Path):
        return load_recipe(str(settings))
    return build_config(None if settings is None else dict(settings), where="config")


def overrides_of(settings: Mapping[str, Any] | None) -> list[str]:
    """Return sections of changes as the `a.b=c` of `--set`.

    Raises:
        UsageError: A section is no mapping.
    """
    found: list[str] = []
    for section, options in (settings or {}).items():
        if not isinstance(options, Mapping):
            raise UsageError(f"config[{section!r}] is no mapping of options")
        found += [f"{section}.{name}={json.dumps(value)}" for name, value in options.items()]
    return found
