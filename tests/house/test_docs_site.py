"""The documents hang together: every page is in the site's navigation, and every link leads somewhere."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs_commands import ROOT

DOCS = ROOT / "docs"
GENERATED = {"notebook.md"}  # made by scripts/site_notebook.py
BESIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = [*BESIDE, *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
PICTURES = {".png", ".svg", ".jpg", ".webp"}


def prose(text: str) -> str:
    """A page without its code, in which brackets are no links."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?m)^ {4,}.*$|`[^`\n]*`", "", text)


def links(text: str) -> Iterator[tuple[bool, str, str]]:
    """Of every link that stays in the repository: whether it is a picture, its text, its target."""
    for mark, said, target in LINK.findall(prose(text)):
        if not re.match(r"[a-z]+:", target):
            yield bool(mark), said, target


def slugs(text: str, *, github: bool) -> set[str]:
    """The anchors of a page's headings, as GitHub or as the site makes them."""
    found: set[str] = set()
    without_code = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"(?m)^#{1,6} +(.*?) *#*$", without_code):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        kept = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        found.add(re.sub(r"\s", "-", kept) if github else re.sub(r"[-\s]+", "-", kept))
    return found


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def broken(text: str, folder: Path, own: str) -> list[str]:
    """The links of a text that lead nowhere."""
    found = []
    for picture, said, target in links(text):
        name, _, anchor = target.partition("#")
        place = folder / name
        if name and not place.exists() and not (folder == DOCS and name in GENERATED):
            found.append(f"{target}: there is no such file")
        elif picture and (len(said) < 10 or place.suffix not in PICTURES):
            found.append(f"{target}: a picture needs words for who cannot see it")
        elif anchor and (not name or place.suffix == ".md"):
            there = text_of(place) if name else own
            if not all(anchor in slugs(there, github=github) for github in (True, False)):
                found.append(f"{target}: there is no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_is_there(page: Path) -> None:
    assert broken(text_of(page), page.parent, text_of(page)) == []


def test_the_notebook_s_links_are_there() -> None:
    cells = json.loads(text_of(ROOT / "notebooks" / "penchant.ipynb"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert sum(1 for _ in links(text)) >= 3
    assert broken(text, ROOT / "notebooks", text) == []


def test_every_page_is_in_the_navigation_once() -> None:
    site = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))
    listed = [page for section in site["nav"] for pages in section.values() for page in pages]
    assert sorted(listed) == sorted({page.name for page in DOCS.glob("*.md")} | GENERATED)
    assert site["strict"] is True
    assert site["theme"]["font"] is False  # would be loaded from others


def test_every_picture_is_shown_somewhere() -> None:
    shown = {Path(target).name for page in PAGES for _, _, target in links(text_of(page))}
    there = {path.name for path in DOCS.rglob("*") if path.suffix in PICTURES}
    assert there - shown == set()


def test_the_reference_has_every_module_and_every_name_has_a_docstring() -> None:
    """The reference is made of docstrings; ruff refuses a public name without one, so none is missing."""
    pages = site_reference().modules()
    sources = ROOT / "src" / "penchant"
    public = [path for path in sources.rglob("*.py") if not re.search(r"/_[^_]|/__main__", str(path))]
    assert sum(map(len, pages.values())) == len(public) > 250
    lint = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["ruff"]["lint"]
    assert "D" in lint["select"]
    ignored = {rule for rule in lint["ignore"] if rule.startswith("D1")}
    assert ignored == {"D105", "D107"}
    exempt = [where for where, rules in lint["per-file-ignores"].items() if {"D", "D1"} & set(rules)]
    assert exempt == ["tests/**"]


def site_reference() -> Any:
    spec = spec_from_file_location("site_reference", ROOT / "scripts" / "site_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_search_itself_sees_what_is_broken(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A `b`: c, and d\n```\n# none\n```\n", encoding="utf-8")
    (tmp_path / "p.png").touch()
    good = "[x](there.md#a-b-c-and-d) ![what is to be seen](p.png) [y](https://e.org/none) `[z](none.md)`"
    good += "\n# Me\n[me](#me)"
    bad = "[a](none.md) [b](there.md#none) ![](p.png) [c](#nobody)"
    assert broken(good, tmp_path, good) == []
    assert len(broken(bad, tmp_path, bad)) == 4
