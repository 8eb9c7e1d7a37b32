"""What the pages of a step and of a pair say, as plain values for their templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penchant.evaluation.token_scores import ScoredToken
from penchant.reporting.figures import finite_number, percent, plain_number
from penchant.reporting.text_difference import text_differences
from penchant.types import PreferencePair
from penchant.web.run_files import Row

_FIGURES = (
    ("Loss", "loss", plain_number),
    ("Accuracy", "rewards/accuracies", percent),
    ("Margin", "rewards/margins", plain_number),
    ("Gradient norm", "grad_norm", plain_number),
    ("Learning rate", "learning_rate", plain_number),
    ("Pairs", "pairs", plain_number),
)
_OWN = (
    ("loss", "loss"),
    ("margin", ""),
    ("chosen", "chosen_log_ratio"),
    ("rejected", "rejected_log_ratio"),
    ("chosen_tokens", "chosen_tokens"),
    ("rejected_tokens", "rejected_tokens"),
)
_SHOWN_PROMPT = 160  # characters
_BLANKS = {ord(" "): "␣", ord("\n"): "⏎", ord("\t"): "⇥"}
SHADES = (0.05, 0.25, 1.0, 2.5)  # nats from which on a token has the next deeper shade


def step_figures(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the figures of a step as text, label first."""
    known = ((label, finite_number(row.get(key)), show) for label, key, show in _FIGURES)
    return [(label, show(value)) for label, value, show in known if value is not None]


def pairs_of(line: Mapping[str, Any]) -> list[Row]:
    """Return the pairs of a line of `pairs.jsonl`, those of the highest loss first.

    Each has its `place` in the line, `id`, and as text `loss`, `margin` (chosen - rejected log-ratio, nats),
    `chosen` and `rejected` (log-ratios, nats) and the numbers of scored tokens.
    """
    names = line.get("id")
    found = []
    for place, name in enumerate(names if isinstance(names, list) else ()):
        values = {short: _at(line, key, place) for short, key in _OWN}
        chosen, rejected = values["chosen"], values["rejected"]
        if chosen is not None and rejected is not None:
            values["margin"] = chosen - rejected
        shown = {short: "" if value is None else plain_number(value) for short, value in values.items()}
        found.append({"place": place, "id": str(name), "order": values["loss"], **shown})
    return sorted(found, key=lambda pair: (pair["order"] is None, -(pair["order"] or 0.0), pair["place"]))


def prompt_start(pair: PreferencePair) -> str:
    """Return how the last turn of a pair's prompt begins."""
    text = pair.prompt[-1].content if pair.prompt else ""
    return text if len(text) <= _SHOWN_PROMPT else text[:_SHOWN_PROMPT] + "…"


def pair_text(pair: PreferencePair) -> Row:
    """Return a pair's conversation, and its two responses in pieces, each shared or its own."""
    chosen, rejected = text_differences(pair.chosen, pair.rejected)
    return {
        "turns": [(turn.role, turn.content) for turn in pair.prompt],
        "leads": {
            "chosen": [(turn.role, turn.content) for turn in pair.chosen_lead],
            "rejected": [(turn.role, turn.content) for turn in pair.rejected_lead],
        },
        "sides": {"Chosen": chosen, "Rejected": rejected if pair.rejected else ()},
        "source": f"{pair.source}, line {pair.line}" if pair.source else "",
    }


def token_view(tokens: Sequence[ScoredToken]) -> Row:
    """Return a response token by token: text, name (its blanks to be seen), figures, shade; and the sums."""
    return {
        "tokens": [
            {
                "text": token.text,
                "name": token.text.translate(_BLANKS),
                "shade": shade(token.difference),
                "difference": f"{token.difference:+.3f}",
                "policy": f"{token.policy:.3f}",
                "reference": f"{token.reference:.3f}",
            }
            for token in tokens
        ],
        "policy": f"{sum(token.policy for token in tokens):.2f}",
        "reference": f"{sum(token.reference for token in tokens):.2f}",
        "difference": f"{sum(token.difference for token in tokens):+.2f}",
    }


def shade(difference: float) -> str:
    """Return a shade by name: same, or up or down with 1 to 4 behind it, by 0.05, 0.25, 1 and 2.5 nats."""
    depth = sum(abs(difference) >= bound for bound in SHADES)
    return "same" if depth == 0 else f"{'up' if difference > 0 else 'down'}{depth}"


def _at(line: Mapping[str, Any], key: str, place: int) -> float | None:
    values = line.get(key)
    return finite_number(values[place]) if isinstance(values, list) and place < len(values) else None
