"""What the monitors of a run saw, for its page: findings, the pairs that fell the most, answers on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penchant.reporting.figures import finite_number, percent, plain_number

Row = dict[str, Any]

_NAMES = {
    "displacement": "Chosen responses became less probable",
    "no_improvement": "No improvement to be seen",
    "length": "Margins follow length",
    "drift": "Generated answers drifted",
}


def findings_of(training: Mapping[str, Any]) -> list[Row] | None:
    """Return title, summary and remedies of each finding in `eval/training.json`; None when it has no list."""
    found = training.get("findings")
    if not isinstance(found, list):
        return None
    return [
        {
            "title": _NAMES.get(str(row.get("name")), str(row.get("name", "unnamed"))),
            "summary": str(row.get("summary", "")),
            "remedies": [str(remedy) for remedy in _list(row.get("remedies"))],
        }
        for row in found
        if isinstance(row, dict)
    ]


def worst_pairs_of(training: Mapping[str, Any]) -> list[Row]:
    """Return the pairs whose chosen response fell the most: name, figures as text, and the three texts."""
    rows = [row for row in _list(training.get("worst_pairs")) if isinstance(row, dict)]
    return [
        {
            "id": str(row.get("id", "")),
            "chosen_fell": _shown(row.get("chosen_log_ratio")),
            "rejected_fell": _shown(row.get("rejected_log_ratio")),
            "tokens": _shown(row.get("chosen_tokens")),
            **{name: str(row.get(name, "")) for name in ("prompt", "chosen", "rejected")},
        }
        for row in rows
    ]


def generations_of(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the figures of the answers on the way as text, a row for each time they were drawn."""
    return [
        {
            "step": _shown(line.get("step")),
            "kl": _shown(line.get("kl_per_token")),
            "interval": _bounds(line.get("kl_per_token_interval")),
            "tokens": _shown(line.get("mean_tokens")),
            "repetition": _share(line.get("repetition")),
            "unfinished": _share(line.get("unfinished")),
        }
        for line in lines
    ]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _shown(value: object) -> str:
    number = finite_number(value)
    return "not measured" if number is None else plain_number(number)


def _share(value: object) -> str:
    number = finite_number(value)
    return "not measured" if number is None else percent(number)


def _bounds(value: object) -> str:
    match value:
        case [low, high]:
            return f"{_shown(low)} to {_shown(high)}"
    return ""
