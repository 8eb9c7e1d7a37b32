"""What the data browser can show: files and folders that were named, and the data of runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from penchant.config import Config, StrengthConfig, build_config
from penchant.data.files import split_names
from penchant.data.formats import EXAMPLES, FORMATS, LABELLED, DataFormat
from penchant.errors import PenchantError, UsageError, did_you_mean
from penchant.strict_yaml import read_yaml

Kind = Literal["file", "prepared", "run"]
_FILES = ("ledger.parquet", "card.json", "config.yaml")
_DEPTH = 2  # a run, and a stage of `penchant align` in it


@dataclass(frozen=True)
class DataSource:
    """Rows that can be browsed.

    Attributes:
        name: What it is called, unique among those that are shown.
        kind: A file of pairs, a prepared folder, or a run with its data.
        path: The file or folder.
    """

    name: str
    kind: Kind
    path: Path

    @property
    def key(self) -> str:
        """Its name in addresses: letters, digits and hyphens, alike whenever the place is."""
        digest = hashlib.blake2b(str(self.path.resolve()).encode("utf-8", "surrogateescape"), digest_size=4)
        word = re.sub(r"[^a-z0-9]+", "-", self.name.lower().encode("ascii", "ignore").decode()).strip("-")
        return f"{word[:40] or 'data'}-{digest.hexdigest()}"

    def data_path(self) -> Path | None:
        """Return where the rows are read from: of a run, where its configuration says; None when it does not."""
        if self.kind != "run":
            return self.path
        place = run_facts(self.path).get("data")
        return Path(place) if isinstance(place, str) else None

    def files(self) -> list[Path]:
        """Return the files on which what is shown depends, whether or not they are there."""
        data = self.data_path()
        found = [self.path / name for name in _FILES] if self.kind != "file" else []
        if data is not None:
            found += [data] if not data.is_dir() else sorted(path for path in data.rglob("*") if path.is_file())
        return list(dict.fromkeys(found))


def named_source(path: Path) -> DataSource:
    """Return what a path of the command line names.

    Raises:
        UsageError: There is nothing there.
    """
    if not path.exists():
        near = did_you_mean(path.name, [one.name for one in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise UsageError(f"there is no such file or folder.{near}", where=f"--data {path}")
    if path.is_dir() and (path / "ledger.parquet").is_file():
        kind: Kind = "run" if (path / "config.yaml").is_file() else "prepared"
    else:
        kind = "file"
    return DataSource(path.resolve().name or str(path), kind, path)


def all_sources(paths: Sequence[Path], runs: Path | None) -> list[DataSource]:
    """Return what was named, then the data of every run in the folder of runs that has a ledger."""
    named = [named_source(path) for path in paths if path.exists()]
    known = {source.path.resolve() for source in named}
    found = [] if runs is None else _runs(runs, _DEPTH)
    return named + [
        DataSource(folder.relative_to(runs).as_posix(), "run", folder)
        for folder in found
        if runs is not None and folder.resolve() not in known
    ]


def _runs(folder: Path, depth: int) -> list[Path]:
    found: list[Path] = []
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return found
    for path in inside:
        if (path / "ledger.parquet").is_file() and (path / "config.yaml").is_file():
            found.append(path)
        elif depth > 1:
            found += _runs(path, depth - 1)
    return found


def run_facts(run: Path) -> dict[str, Any]:
    """Return the circumstances that a run's configuration notes, {} when it cannot be read."""
    facts = _written(run).get("run")
    return facts if isinstance(facts, dict) else {}


def run_settings(run: Path) -> Config | None:
    """Return a run's settings, None when they cannot be read by this version."""
    settings = {name: section for name, section in _written(run).items() if name != "run"}
    if not settings:
        return None
    try:
        return build_config(settings, where=str(run / "config.yaml"))
    except PenchantError:
        return None


def _written(run: Path) -> dict[str, Any]:
    try:
        return _read_once(run / "config.yaml", (run / "config.yaml").stat().st_mtime_ns)
    except (PenchantError, OSError):
        return {}


@lru_cache(maxsize=256)
def _read_once(file: Path, _changed: int) -> dict[str, Any]:
    values = read_yaml(file)
    return values if isinstance(values, dict) else {}


def thresholds_of(source: DataSource) -> StrengthConfig | None:
    """Return the thresholds of strength that the data was filtered with, None where no card says any."""
    data = source.data_path()
    if data is None or not data.is_dir():
        return None
    try:
        card = json.loads((data / "card.json").read_text(encoding="utf-8"))
        return StrengthConfig.model_validate(card["strength"]["thresholds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def formats_of(source: DataSource) -> tuple[DataFormat, ...]:
    """Return how the rows may be read, the likeliest first: of a run, as its loss reads them."""
    settings = run_settings(source.path) if source.kind == "run" else None
    if settings is not None and settings.objective.loss == "sft":
        return (EXAMPLES,)
    if settings is not None and settings.objective.loss == "kto":
        return (LABELLED,)
    return (FORMATS["local"],) if source.kind != "file" else (FORMATS["local"], LABELLED, EXAMPLES)


def splits_of(source: DataSource, data: Path) -> list[str | None]:
    """Return the splits that are read, [None] for a single file; of a run the one that it was trained on."""
    if not data.is_dir():
        return [None]
    if source.kind == "run":
        return ["train"]
    return list(split_names(data)) or [None]
