"""The figures of a model card: what an evaluation measured, with intervals, and what nobody measured."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult

from penchant.evaluation.run_record import RunRecord

# key of the summary, what it is, and the same of the reference
_FIGURES = (
    ("preference_accuracy_policy", "held-out pairs ranked right (mean log-prob)", "preference_accuracy_reference"),
    (
        "preference_accuracy_sum_policy",
        "held-out pairs ranked right (summed log-prob)",
        "preference_accuracy_sum_reference",
    ),
    ("reward_accuracy", "held-out pairs with a positive implicit reward margin", None),
    ("reward_auc", "AUC of the implicit reward, desirable against undesirable", None),
    ("pass_rate_policy", "answers to test questions that show the style", "pass_rate_reference"),
    (
        "degenerate_rate_policy",
        "answers that are empty, unfinished, a loop or an echo",
        "degenerate_rate_reference",
    ),
    ("token_loss_policy", "loss on held-out examples, nats a token", "token_loss_reference"),
    ("kl_to_reference", "KL from the reference on ordinary prose, nats a token", None),
    ("perplexity_policy", "perplexity on ordinary prose", "perplexity_reference"),
    ("chosen_logps_fell_fraction", "held-out chosen responses less probable than before", None),
)
_ALWAYS_UNMEASURED = (
    "Not measured: truth of what it says, safety, bias, languages other than the data's, long conversations.",
    "The figures hold for the data named here; other prompts were not looked at.",
)


def evaluation_table(record: RunRecord) -> str:
    """Return the figures of `eval/summary.json` as a Markdown table, or that there are none yet."""
    rows = list(_rows(record))
    if not rows:
        return "Not evaluated when this card was written."
    lines = ["95 % intervals in brackets.", "", "| figure | reference | policy |", "|---|---|---|"]
    lines += [f"| {what} | {before} | {after} |" for what, before, after in rows]
    return "\n".join(lines)


def _rows(record: RunRecord) -> Iterator[tuple[str, str, str]]:
    for key, what, reference in _FIGURES:
        if _number(record.summary.get(key)) is not None:
            before = "" if reference is None else _with_interval(record, reference)
            yield what, before, _with_interval(record, key)


def _with_interval(record: RunRecord, key: str) -> str:
    value = _number(record.summary.get(key))
    if value is None:
        return ""
    interval = _interval(record, key)
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _interval(record: RunRecord, key: str) -> tuple[float, float] | None:
    found = record.summary.get(f"{key}_interval")
    ends = [_number(end) for end in found] if isinstance(found, list) else []
    return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None


def _number(value: Any) -> float | None:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if plain else None


def evaluation_results(record: RunRecord) -> list[EvalResult]:
    """Return the policy's figures as entries of a card's `model-index`."""
    found = []
    for key, what, _ in _FIGURES:
        value = _number(record.summary.get(key))
        if value is None:
            continue
        interval = _interval(record, key)
        found.append(
            EvalResult(
                task_type="text-generation",
                dataset_type="held-out",
                dataset_name="held-out rows of the run's data",
                metric_type=key,
                metric_name=what,
                metric_value=round(value, 6),
                metric_args=None if interval is None else {"interval_95": [round(end, 6) for end in interval]},
            )
        )
    return found


def known_limits(record: RunRecord) -> list[str]:
    """Return what the monitors found, what was not measured, and what never is; a sentence each."""
    found = []
    for finding in record.training.get("findings") or ():
        if isinstance(finding, dict):
            found.append(
                f"A monitor of the run said ({as_words(finding.get('name'))}): {as_words(finding.get('summary'))}."
            )
    if record.training and not found:
        found.append("The run's monitors found nothing against it.")
    if not record.summary:
        found.append("No evaluation of this policy is in its run directory.")
    return [*found, *_ALWAYS_UNMEASURED]


def as_words(value: Any) -> str:
    """Return text of others as plain words of Markdown: one line, no control characters, no markup."""
    kept = "".join(
        char if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else " "
        for char in str(value)[:400]
    )
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|!~" else char for char in kept).rstrip(". ")
