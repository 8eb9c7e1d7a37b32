"""TRL's `DPOTrainer` and `DPOConfig` with Penchant's engine: a script changes one import (docs/from-trl.md).

    from penchant.integrations.trl import DPOConfig, DPOTrainer

TRL itself is not needed. Neither torch nor transformers is loaded before a trainer is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penchant.integrations.trl.config import DPOConfig

if TYPE_CHECKING:
    from penchant.integrations.trl.trainer import DPOTrainer

__all__ = ["DPOConfig", "DPOTrainer"]


def __getattr__(name: str) -> Any:
    if name != "DPOTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("penchant.integrations.trl.trainer").DPOTrainer
