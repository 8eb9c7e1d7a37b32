"""The reference of the documentation site: a page for every package, made of its docstrings by the build.

A hook of mkdocs (see mkdocs.yml). The pages are made from the sources, so no module can be left out.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

SOURCES = Path(__file__).parents[1] / "src"
FOLDER = "reference"


def modules() -> dict[str, list[str]]:
    """Return the public modules of each package by its name, packages and modules in alphabetical order."""
    found: dict[str, list[str]] = {}
    for file in sorted((SOURCES / "penchant").rglob("*.py")):
        parts = file.relative_to(SOURCES).with_suffix("").parts
        if any(part.startswith("_") and part != "__init__" for part in parts) or parts[-1] == "__main__":
            continue
        name = ".".join(part for part in parts if part != "__init__")
        package = ".".join(parts[:2]) if len(parts) > 2 else "penchant"
        found.setdefault(package, []).append(name)
    return found


def page(package: str, names: list[str]) -> str:
    """Return a package's page: the docstrings of its modules, each under its name."""
    return "\n\n".join([f"# {package}", *(f"::: {name}" for name in names)]) + "\n"


def on_config(config: Any) -> Any:
    """Put the pages into the navigation."""
    entries = [{package: f"{FOLDER}/{package}.md"} for package in modules()]
    config.nav = [*config.nav, {"Reference": entries}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File  # pyright: ignore[reportMissingImports]  # of the site's environment

    for package, names in modules().items():
        place = PurePosixPath(FOLDER, f"{package}.md")
        files.append(File.generated(config, str(place), content=page(package, names)))
    return files
