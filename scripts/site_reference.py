"""The reference of the documentation site: a page for every package, made of its docstrings by the build.

A hook of mkdocs (see mkdocs.yml). The pages are made from the sources, so no module can be left out; and a build
in which a public function, class or method did not get its entry fails.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

SOURCES = Path(__file__).parents[1] / "src"
FOLDER = "reference"
_BEHIND = "---\nsearch:\n  boost: 0.1\n---"  # what is found in the documents stands before it


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
    return "\n\n".join([_BEHIND, f"# {package}", *(f"::: {name}" for name in names)]) + "\n"


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


def public_names() -> Iterator[str]:
    """Yield the full name of every public function and class of the sources, and of a class's public methods."""
    for name in (module for found in modules().values() for module in found):
        path = SOURCES.joinpath(*name.split("."))
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        for node in _public(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{name}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from (f"{name}.{node.name}.{method.name}" for method in _public(node))


def on_post_build(config: Any) -> None:
    """Compare the inventory of what the site has entries for with the sources.

    Raises:
        mkdocs.exceptions.PluginError: A public name has none.
    """
    from mkdocs.exceptions import PluginError  # pyright: ignore[reportMissingImports]  # of the site's environment

    inventory = (Path(config.site_dir) / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = {line.split(" ")[0] for line in zlib.decompress(inventory).decode("utf-8").splitlines()}
    missing = [name for name in public_names() if name not in entries]
    if missing:
        raise PluginError(f"the reference lacks {len(missing)} public names, among them {', '.join(missing[:5])}")


def _public(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not one.name.startswith("_"):
            yield one
