"""What an evaluation came to in one line, for lists of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TOO_LARGE = 1e30


def main_figure(summary: Mapping[str, Any]) -> tuple[str, bool | None]:
    """Return a sentence on an evaluation and whether it is good news; "" and None where nothing was evaluated.

    The verdict where there is one; else the gain in preference accuracy, or after SFT the change of the loss per
    token. These are good news, or bad, where their interval lies to one side of zero; else they are neither.

    Args:
        summary: `eval/summary.json`.
    """
    verdict = summary.get("verdict")
    if isinstance(verdict, dict) and isinstance(verdict.get("headline"), str):
        return verdict["headline"], verdict.get("worked") is True
    for key, what, scale, unit, better in (
        ("preference_accuracy_gain", "Preference accuracy", 100.0, " points", 1),
        ("token_loss_change", "Loss per held-out token", 1.0, " nats", -1),
    ):
        bounds = _interval(summary, key)
        if bounds is not None:
            value, low, high = (scale * bound for bound in bounds)
            sentence = f"{what} {value:+.3g}{unit} ({low:+.3g} to {high:+.3g})."
            good = (low if better > 0 else -high) > 0
            bad = (high if better > 0 else -low) < 0
            return sentence, True if good else False if bad else None
    return "", None


def _interval(summary: Mapping[str, Any], key: str) -> tuple[float, float, float] | None:
    match summary.get(key), summary.get(f"{key}_interval"):
        case (int() | float() as value, [int() | float() as low, int() | float() as high]):
            known = all(abs(one) < _TOO_LARGE for one in (value, low, high))
            return (value, low, high) if known else None
    return None
