"""What the shell offers after Tab: recipes, runs, settings and their values, losses, judges, data files.

Each takes what was typed so far and returns words that begin with it. They read names of files and Penchant's own
tables; torch, numpy and matplotlib are not loaded, since a shell waits for them at every press of the key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

_DATA = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".txt")
_RECIPES = (".yaml", ".yml")
_MODELS = (".gguf", ".pth", ".pt")
_MOST = 200  # of a folder
DATA_SETS = (
    "hh_rlhf",
    "full_hh_rlhf",
    "ultrafeedback",
    "ultrafeedback_scored",
    "orca_dpo",
    "local",
    "mix",
)
SUITES = (
    "all",
    "pairs",
    "prose",
    "text",
    "truthfulqa",
    "refusals",
    "instructions",
    "prompts",
    "house-style",
    "lm-eval",
)
TRACKERS = ("trackio", "tensorboard", "wandb")
JUDGES = ("house-style", "instructions", "longer", "random", "implicit", "reward:", "llm:", "llm-grade:", "votes:")


def recipe(incomplete: str) -> list[str]:
    """Packaged recipes, and YAML files."""
    return packaged_recipe(incomplete) + _paths(incomplete, _RECIPES)


def packaged_recipe(incomplete: str) -> list[str]:
    """Packaged recipes alone; looked up as files, since to import them would load the whole configuration."""
    files = Path(__file__).parents[1] / "recipes"
    return _offered([path.stem for path in _listed(files) if path.suffix == ".yaml"], incomplete)


def recipe_file(incomplete: str) -> list[str]:
    """YAML files, and folders."""
    return _paths(incomplete, _RECIPES)


def run(incomplete: str) -> list[str]:
    """Run directories here and below `runs`, and folders on the way to others."""
    found = _runs(Path("runs")) + _runs(Path("."))
    return _offered(dict.fromkeys(found), incomplete) + _paths(incomplete, ())


def model(incomplete: str) -> list[str]:
    """The bundled model, run directories, and files and folders of models."""
    return _offered(("bundled",), incomplete) + run(incomplete) + _paths(incomplete, _MODELS, folders=False)


def data(incomplete: str) -> list[str]:
    """Files that may hold pairs or prompts, and folders."""
    return _paths(incomplete, _DATA)


def prompts(incomplete: str) -> list[str]:
    """The packaged questions by split, and files that may hold prompts."""
    return _offered([f"house-style:{split}" for split in ("train", "validation", "test")], incomplete) + data(
        incomplete
    )


def questions(incomplete: str) -> list[str]:
    """Splits of the packaged questions, and files."""
    return _offered(("train", "validation", "test"), incomplete) + data(incomplete)


def judge(incomplete: str) -> list[str]:
    """Names of judges; those that end with a colon want more behind it."""
    kind, colon, rest = incomplete.partition(":")
    if colon and kind == "votes":
        return [f"votes:{path}" for path in data(rest)]
    if colon and kind == "reward":
        return [f"reward:{path}" for path in model(rest)]
    return _offered(JUDGES, incomplete)


def data_set(incomplete: str) -> list[str]:
    """Data sets that `prepare` knows."""
    return _offered(DATA_SETS, incomplete)


def suite(incomplete: str) -> list[str]:
    """Suites of `eval`."""
    return _offered(SUITES, incomplete)


def tracker(incomplete: str) -> list[str]:
    """Trackers, also behind a comma."""
    before, comma, rest = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _offered(TRACKERS, rest) if name not in before.split(",")]


def word_of(*words: str) -> Any:
    """Return a completer of fixed words."""
    return lambda incomplete: _offered(words, incomplete)


def setting(incomplete: str) -> list[str]:
    """Keys of the configuration as `A.B=`, and behind the sign the values that there are.

    Where a single key is left its values stand beside it, so that a shell writes no space behind the sign.
    """
    from penchant.config import Config

    return _settings(incomplete, dict(_keys(Config)))


def allowed_change(incomplete: str) -> list[str]:
    """Keys alone."""
    from penchant.config import Config

    return _offered([key for key, _ in _keys(Config)], incomplete)


def _settings(incomplete: str, keys: dict[str, list[str]]) -> list[str]:
    key, sign, value = incomplete.partition("=")
    if sign:
        return [f"{key}={one}" for one in keys.get(key, []) if one.startswith(value)]
    found = _offered([f"{name}=" for name in keys], incomplete)
    if len(found) == 1:
        found += [f"{found[0]}{one}" for one in keys[found[0].removesuffix("=")]]
    return found


def _keys(section: Any, before: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every key of a section and of the sections in it, with the values that it may have where they are few."""
    for name, field in section.model_fields.items():
        inner = next((part for part in _parts(field.annotation) if hasattr(part, "model_fields")), None)
        if inner is not None:
            yield from _keys(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", _values(f"{before}{name}", field)


def _values(key: str, field: Any) -> list[str]:
    if key == "objective.loss":
        from penchant.config import OBJECTIVE_OPTIONS

        return list(OBJECTIVE_OPTIONS)
    found: list[str] = []
    for part in _parts(field.annotation):
        if get_origin(part) is Literal:
            found += [_yaml(value) for value in get_args(part)]
        elif part is bool:
            found += ["true", "false"]
        elif part is type(None):
            found.append("null")
    if not field.is_required() and isinstance(field.default, (int, float, str)) and field.default != "":
        found.insert(0, _yaml(field.default))
    return list(dict.fromkeys(found))


def _parts(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, unwrapped."""
    if hasattr(annotation, "__metadata__"):
        yield from _parts(annotation.__origin__)
    elif get_origin(annotation) is Literal or not get_args(annotation):
        yield annotation
    elif get_origin(annotation) in (dict, list, tuple):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _parts(part)


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _offered(words: Any, incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _runs(folder: Path) -> list[str]:
    """Run directories in a folder and one below (of aligned runs, of sweeps)."""
    found: list[str] = []
    for path in _listed(folder):
        if (path / "config.yaml").is_file():
            found.append(str(path))
        elif path.is_dir() and folder.name == "runs":
            found += [str(one) for one in _listed(path) if (one / "config.yaml").is_file()]
    return found


def _paths(incomplete: str, suffixes: tuple[str, ...], *, folders: bool = True) -> list[str]:
    """Files with these suffixes and folders; of a single folder what is in it, so that no space follows it."""
    head, _, start = incomplete.rpartition("/")
    place = f"{head}/" if "/" in incomplete else ""
    names = [path.name for path in _listed(Path(os.path.expanduser(place or "."))) if path.name.startswith(start)]
    names = [name for name in names if start.startswith(".") or not name.startswith(".")]
    inside = Path(os.path.expanduser(place or "."))
    found = [f"{place}{name}" for name in names if name.endswith(suffixes) and (inside / name).is_file()]
    within = [f"{place}{name}/" for name in names if folders and (inside / name).is_dir()]
    if not found and len(within) == 1 and within[0] != incomplete:
        return within + _paths(within[0], suffixes)
    return found + within


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:_MOST]
    except OSError:
        return []
