"""The report's tables of what was evaluated: before and after, controls, models side by side, the judge's card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from penchant.reporting.charts import Bar, Chart, fraction_bars
from penchant.reporting.comparison_page import comparison_tables
from penchant.reporting.figures import (
    Row,
    count,
    figure_of,
    interval_of,
    list_of,
    mapping_of,
    number_of,
    percent,
    plain_number,
    rows_of,
    text_of,
)
from penchant.reporting.page import visible
from penchant.reporting.report_pairs import LENGTH_KEYS
from penchant.reporting.run_files import RunFiles

# Figures that the reference and the policy both have: label, key, how to print it.
PAIRED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Answers in the style", "pass_rate", percent),
    ("Preference accuracy, mean log-probability", "preference_accuracy", percent),
    ("Preference accuracy, summed log-probability", "preference_accuracy_sum", percent),
    ("TruthfulQA, MC1", "truthfulqa_mc1", percent),
    ("TruthfulQA, MC2", "truthfulqa_mc2", percent),
    ("Degenerate answers", "degenerate_rate", percent),
    ("Words per answer", "mean_words", plain_number),
    ("Loss per token, held-out examples (nats)", "token_loss", plain_number),
    ("Perplexity of packaged prose", "perplexity", plain_number),
)
# Figures of the comparison or of the run: label, key, how to print it.
SINGLE: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Change of preference accuracy", "preference_accuracy_gain", percent),
    ("Reward accuracy", "reward_accuracy", percent),
    ("Desirable above undesirable, by reward", "reward_auc", percent),
    ("Reward margin (beta x nats)", "reward_margin", plain_number),
    ("Distance from the reference (KL, nats per token)", "kl_to_reference", plain_number),
    ("Pairs whose chosen log-probability fell", "chosen_logps_fell_fraction", percent),
    ("Change of the loss per token", "token_loss_change", plain_number),
    ("Examples whose loss fell", "examples_better_fraction", percent),
    ("Questions that only the trained model passes", "questions_gained", count),
    ("Questions that only the reference passes", "questions_lost", count),
    ("McNemar p, pass rate before against after", "mcnemar_p", plain_number),
    ("Test pairs", "test_pairs", count),
    ("Test questions", "test_questions", count),
)
_SHOWN_ELSEWHERE = {"verdict", "controls", "style", "breakdown_reference", "breakdown_policy", "part_seconds"}
_SHOWN_ELSEWHERE |= {"train_pairs", "train_seconds", "total_seconds", "peak_memory_bytes"}
_SHOWN_ELSEWHERE |= {"findings", "worst_pairs", "plan", *LENGTH_KEYS}
_MOST_TEXT = 200


class Measured(NamedTuple):
    """A line of the table of all other figures."""

    label: str
    figure: Row


def paired_rows(summary: Row) -> list[tuple[str, Row | None, Row | None]]:
    """Return the figures that both models have: label, before, after."""
    rows = (
        (label, figure_of(summary, f"{key}_reference", show), figure_of(summary, f"{key}_policy", show))
        for label, key, show in PAIRED
    )
    return [row for row in rows if row[1] or row[2]]


def known_rows(summary: Row) -> list[Measured]:
    """Return the single figures that this page knows by name."""
    rows = ((label, figure_of(summary, key, show)) for label, key, show in SINGLE)
    return [Measured(label, figure) for label, figure in rows if figure]


def other_rows(summary: Row) -> list[Measured]:
    """Return whatever else the summary holds, under its own names, so that nothing is hidden."""
    taken = {key for _, key, _ in SINGLE} | _SHOWN_ELSEWHERE
    taken |= {f"{key}_{side}" for _, key, _ in PAIRED for side in ("reference", "policy")}
    others = sorted(key for key in summary.keys() - taken if not key.endswith("_interval"))
    return [Measured(key, figure_of(summary, key, plain_number) or _as_text(summary[key])) for key in others]


def control_rows(summary: Row) -> list[Row]:
    """Return the controls beside the policy, each with where its figures come from."""
    return [
        {
            "name": text_of(row, "name", "unnamed control"),
            "pass_rate": figure_of(row, "pass_rate", percent),
            "degenerate_rate": figure_of(row, "degenerate_rate", percent),
            "kl": figure_of(row, "kl_to_reference", plain_number),
            "p": figure_of(row, "p_against_dpo", plain_number),
            "bar": (number_of(row, "pass_rate"), interval_of(row, "pass_rate")),
            "committed": row.get("committed") is not False,
            "origin": _origin(row),
        }
        for row in rows_of(summary, "controls")
    ]


def control_chart(summary: Row) -> Chart | None:
    """Draw the pass rates of reference, policy and controls; None where none was measured."""
    ours = {"Before: the reference": "pass_rate_reference", "After: the trained policy": "pass_rate_policy"}
    rows = [(label, number_of(summary, key), interval_of(summary, key), True) for label, key in ours.items()]
    for control in control_rows(summary):
        rows.append((visible(control["name"]), *control["bar"], not control["committed"]))
    bars = [Bar(label, value, interval, here) for label, value, interval, here in rows if value is not None]
    return fraction_bars("pass-rate", "Answers in the style, with 95% intervals", bars) if bars else None


def failure_rows(summary: Row) -> list[tuple[str, str, str]]:
    """Return why answers failed the style: reason, how many before, how many after."""
    before, after = mapping_of(summary, "breakdown_reference"), mapping_of(summary, "breakdown_policy")
    reasons = sorted(before.keys() | after.keys())
    reasons.sort(key=lambda reason: number_of(before, reason) or 0, reverse=True)
    return [(reason, str(before.get(reason, 0)), str(after.get(reason, 0))) for reason in reasons]


def side_by_side(files: RunFiles) -> tuple[Row | None, tuple[str, str] | None]:
    """Return the table of `eval/comparison.json`, or what is wrong with it: file and reason."""
    if files.comparison is None:
        return None, None
    try:
        return comparison_tables(files.comparison), None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return None, ("eval/comparison.json", f"is no comparison of models ({type(error).__name__}: {error})")


def judge_cards(files: RunFiles) -> list[Row]:
    """Return the cards of the judges of this run: name, figures, and what to beware of."""
    found = [files.judgement] if files.judgement else []
    for suites in mapping_of(files.comparison or {}, "figures").values():
        if isinstance(suites, dict):
            found += [figures for figures in suites.values() if isinstance(figures, dict) and "judge" in figures]
    cards = []
    for figures in found:
        card = mapping_of(figures, "card") or figures
        judge = figures.get("judge", card.get("judge"))
        name = text_of(judge, "name") if isinstance(judge, dict) else str(judge or "unnamed judge")
        rows = list(_flat(figures, "card"))
        cards.append({"name": name, "rows": rows, "warnings": list(map(str, list_of(card, "warnings")))})
    return cards


def _flat(figures: Mapping[str, Any], inner: str) -> Sequence[tuple[str, Row]]:
    """Every number of a judgement and of its card, under a readable name."""
    found = []
    for key, value in figures.items():
        if isinstance(value, dict):
            lead = "" if key == inner else f"{key}: "
            found += [(f"{lead}{name}", figure) for name, figure in _flat(value, inner)]
        elif not key.endswith("_interval") and (figure := figure_of(figures, key, plain_number)):
            found.append((key.replace("_", " "), figure))
    return found


def _origin(control: Row) -> str:
    """Where a control's figures come from; whatever is not said to be of this run is not of this run."""
    if control.get("committed") is False:
        return "measured in this run"
    date = control.get("date") or "on a date not given"
    machine = control.get("machine") or "a machine not given"
    return f"came with the package, not measured in this run: {date}, {machine}"


def _as_text(value: object) -> Row:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {"value": text[:_MOST_TEXT], "interval": ""}
