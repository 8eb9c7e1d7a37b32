"""Which licence the start model and the data say they are under; None where nothing says it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from penchant.data.house_style import house_style_file
from penchant.errors import UsageError
from penchant.models.bundled import BUNDLED_NAME
from penchant.strict_yaml import parse_yaml

_BUNDLED_LICENCE = "apache-2.0"
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")  # as the Hub and SPDX write them
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HEAD = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", flags=re.DOTALL)
_MOST_BYTES = 1 << 16


def model_licence(path: str) -> str | None:
    """Return what a start model says of its licence, such as "apache-2.0"; nothing is fetched for it.

    Looked at are the head of README.md in its folder (or, for a Hub id, in the Hub's cache) and the field
    `general.license` of a GGUF file.
    """
    if path == BUNDLED_NAME:
        return _BUNDLED_LICENCE
    if os.path.isdir(path):
        return _of_card(Path(path, "README.md"))
    if os.path.isfile(path):
        return _of_gguf(Path(path)) if path.endswith(".gguf") else None
    if not _HUB_NAME.fullmatch(path):
        return None
    cached = try_to_load_from_cache(path, "README.md")
    return _of_card(Path(cached)) if isinstance(cached, str) else None


def data_licences(place: str) -> dict[str, str]:
    """Return the licences that training data names, by source: those of `penchant prepare`, and of the demo."""
    if Path(place) == house_style_file("pairs"):
        return {"the packaged house style": "Apache-2.0"}
    card = Path(place) / "card.json"
    if not os.path.isfile(card):
        return {}
    try:
        sources = json.loads(card.read_text(encoding="utf-8"))["sources"]
        return {str(source["name"]): str(source["licence"]) for source in sources if source.get("licence")}
    except (ValueError, KeyError, TypeError, AttributeError):  # a file of that name by someone else
        return {}


def _of_card(card: Path) -> str | None:
    """The entry `license` of a model card's YAML head."""
    try:
        with card.open(encoding="utf-8") as file:
            head = _HEAD.match(file.read(_MOST_BYTES))
        found = parse_yaml(head[1], where=str(card)) if head else None
    except (OSError, UnicodeDecodeError, UsageError):  # a card that cannot be read says nothing
        return None
    return _identifier(found.get("license")) if isinstance(found, dict) else None


def _of_gguf(file: Path) -> str | None:
    """The field `general.license` of a GGUF file's head."""
    from gguf import GGUFReader

    field = GGUFReader(file).get_field("general.license")
    return None if field is None else _identifier(field.contents())


def _identifier(value: object) -> str | None:
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else None
