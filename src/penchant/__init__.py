"""Penchant: align a language model with human preferences, and measure whether it worked.

What stands here is loaded when it is first used, so `import penchant` stays light; `__init__.pyi` has the types.
"""

# pyright: reportUnsupportedDunderAll=false
# (`__getattr__` makes the names when they are asked for)
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PLACES = {
    "Config": "config",
    "Evaluation": "library.evaluate",
    "PairLogps": "objective.logps",
    "PenchantError": "errors",
    "Reporter": "workflow.reporter",
    "Scores": "library.score",
    "Trained": "library.train",
    "evaluate": "library.evaluate",
    "score": "library.score",
    "train": "library.train",
}
_MODULES = {"losses": "objective.losses"}

__all__ = [
    "Config",
    "Evaluation",
    "PairLogps",
    "PenchantError",
    "Reporter",
    "Scores",
    "Trained",
    "__version__",
    "evaluate",
    "losses",
    "score",
    "train",
]

try:
    __version__ = version("penchant")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = import_module(f"penchant.{_MODULES[name]}")
    elif name in _PLACES:
        value = getattr(import_module(f"penchant.{_PLACES[name]}"), name)
    else:
        raise AttributeError(f"module 'penchant' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES, *_MODULES})
