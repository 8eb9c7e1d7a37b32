"""Arguments of the constructor that are taken at their default only, and what of callbacks is understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.errors import UsageError, did_you_mean
from penchant.integrations.trl.fields import ARGUMENTS, FIELDS
from penchant.recipes.trl.keys import OLD_KEYS, TRL_VERSION


def check_arguments(given: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Refuse what only has a default here, and what TRL's DPOTrainer has not.

    Args:
        given: Arguments that are accepted at their default.
        others: Arguments that are none of TRL's.

    Raises:
        UsageError: One of them has another value, or there is one of the others.
    """
    for name, value in given.items():
        known = ARGUMENTS[name]
        if value is not None and value != known.default:
            raise UsageError(f"{name} is not taken: {known.why}", where="DPOTrainer", fix="Leave it out.")
    for name in others:
        raise _unknown(name)


def _unknown(name: str) -> UsageError:
    if name == "tokenizer":
        return UsageError(f"tokenizer is called processing_class in TRL {TRL_VERSION}", where="DPOTrainer")
    if name in FIELDS or name in OLD_KEYS:
        place = "is a field of DPOConfig" if name in FIELDS else "is no longer known"
        return UsageError(
            f"{name} is no argument of TRL {TRL_VERSION}'s DPOTrainer: it {place}", where="DPOTrainer"
        )
    return UsageError(
        f"{name} is no argument of TRL {TRL_VERSION}'s DPOTrainer.{did_you_mean(name, ARGUMENTS)}",
        where="DPOTrainer",
    )


def patience_of(callbacks: Any) -> int | None:
    """Return after how many validations without progress callbacks end a run; None without one that does.

    Raises:
        UsageError: There is another callback, or it has a threshold.
    """
    from transformers import EarlyStoppingCallback

    found: int | None = None
    for callback in callbacks or ():
        if not isinstance(callback, EarlyStoppingCallback) or callback.early_stopping_threshold:
            name = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            raise UsageError(
                f"{name} is not taken: {ARGUMENTS['callbacks'].why}",
                where="callbacks",
                fix="Follow OUTPUT_DIR/metrics.jsonl, or look at a run as it goes with `penchant ui`.",
            )
        found = callback.early_stopping_patience
    return found
