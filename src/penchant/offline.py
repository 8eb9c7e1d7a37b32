"""Whether the Hugging Face Hub may be reached: `HF_HUB_OFFLINE`, read as huggingface_hub reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping

_YES = frozenset({"1", "ON", "YES", "TRUE"})


def hub_is_offline(variables: Mapping[str, str] = os.environ) -> bool:
    """Return whether the Hub must not be reached: the setting is 1, true, yes or on, in any case.

    As in huggingface_hub, `TRANSFORMERS_OFFLINE` counts where `HF_HUB_OFFLINE` is not set or empty.
    """
    value = variables.get("HF_HUB_OFFLINE") or variables.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _YES


def hub_remedy(instead: str, otherwise: str) -> str:
    """Return the remedy for what the Hub did not give.

    Args:
        instead: What to do without the Hub; it follows the words that nothing is fetched.
        otherwise: The remedy where the Hub may be reached.
    """
    return f"HF_HUB_OFFLINE is set, so nothing is fetched. {instead}" if hub_is_offline() else otherwise
