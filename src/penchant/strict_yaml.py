"""YAML, read more strictly than PyYAML does by itself, so that nothing means what its author did not mean.

`5e-7` is a number, `no` is a word, `010` is ten, a key may stand once, aliases are refused, and size and depth are
limited.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from penchant.errors import UsageError, did_you_mean

_MAX_YAML_BYTES = 1_000_000
_MAX_DEPTH = 20


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 scalars, unique keys and a depth limit."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {_MAX_DEPTH}")
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if not isinstance(key, str):
                raise yaml.YAMLError(f"the key {key!r} is not a word")
            if key in keys[:index]:
                line = node.value[index][0].start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key!r} stands twice")
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    # a float needs a point or an exponent, or it would be an int
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("float", r"^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+."),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _construct_int(loader: _StrictLoader, node: Any) -> int:
    return int(loader.construct_scalar(node), 10)  # PyYAML would read 010 as octal


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse_yaml(text: str, *, where: str) -> Any:
    """Return the plain data of a YAML text.

    Raises:
        UsageError: The text is too large or is not strict YAML.
    """
    if len(text.encode()) > _MAX_YAML_BYTES:
        raise UsageError(f"more than {_MAX_YAML_BYTES} bytes of YAML", where=where)
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an integer of thousands of digits
        raise UsageError(f"this is not YAML that Penchant reads: {error}", where=where) from error


def read_yaml(path: Path) -> Any:
    """Return the plain data of a YAML file.

    Raises:
        UsageError: The file is missing, not UTF-8, too large or not strict YAML.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_YAML_BYTES + 1).decode("utf-8")
    except FileNotFoundError as error:
        siblings = [item.name for item in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UsageError(f"there is no such file.{did_you_mean(path.name, siblings)}", where=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the file cannot be read ({error})", where=str(path)) from error
    return parse_yaml(text, where=str(path))
