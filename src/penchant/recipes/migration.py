"""The door for files of other tools: whose a file is, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penchant.errors import UsageError, did_you_mean
from penchant.recipes.account import Migration
from penchant.recipes.axolotl import migration as axolotl
from penchant.recipes.axolotl.keys import AXOLOTL
from penchant.recipes.llamafactory import migration as llamafactory
from penchant.recipes.llamafactory.keys import LLAMAFACTORY
from penchant.recipes.trl import migration as trl
from penchant.recipes.trl.dialect import TRL, Dialect
from penchant.strict_yaml import read_yaml

_Migrate = Callable[[Any, int | None, Path], Migration]
_TOOLS: dict[str, tuple[Dialect, _Migrate]] = {
    "trl": (TRL, lambda values, devices, path: trl.migrate(values, gpus=devices, where=str(path))),
    "axolotl": (AXOLOTL, lambda values, devices, path: axolotl.migrate(values, devices=devices, where=str(path))),
    "llamafactory": (
        LLAMAFACTORY,
        lambda values, devices, path: llamafactory.migrate(
            values, devices=devices, where=str(path), folder=path.parent
        ),
    ),
}
TOOLS = tuple(_TOOLS)
"""The tools whose files are understood."""


def migrate_file(path: Path, *, tool: str | None = None, devices: int | None = None) -> Migration:
    """Return what a configuration file of another tool comes to.

    Args:
        path: YAML for `trl dpo`, axolotl or LLaMA-Factory.
        tool: One of `TOOLS`; None = the one whose keys the file has.
        devices: Devices that it was written for; None = what it says itself, or 1.

    Raises:
        UsageError: It is not strict YAML, it is not clear whose it is, or it is for another kind of training.
        DataError: A registry of data sets lies beside it and cannot be read.
    """
    values = read_yaml(path)
    name = recognise(values, where=str(path)) if tool is None else tool
    if name not in _TOOLS:
        raise UsageError(f'there is no tool "{name}".{did_you_mean(name, TOOLS)}', where="--from")
    return _TOOLS[name][1](values, devices, path)


def recognise(values: Any, *, where: str) -> str:
    """Return the tool that has most of a file's keys; a file that none has a key of is read as TRL's.

    Raises:
        UsageError: Several tools have equally many of them.
    """
    if not isinstance(values, Mapping):
        return "trl"
    counts = {name: sum(key in _all_names(dialect) for key in values) for name, (dialect, _) in _TOOLS.items()}
    most = max(counts.values())
    if not most:
        return "trl"
    best = [name for name, count in counts.items() if count == most]
    if len(best) > 1:
        raise UsageError(
            f"its keys could be of {' or '.join(best)}",
            where=where,
            fix=f"Say whose file it is with --from {'|'.join(TOOLS)}.",
        )
    return best[0]


def _all_names(dialect: Dialect) -> set[str]:
    return {*dialect.accepted, *dialect.older}
