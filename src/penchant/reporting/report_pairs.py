"""The report's panels on displacement and length, from what each training pair was measured at.

Every pair is measured before the update that it takes part in, so in the first epoch these are unseen pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, NamedTuple

from penchant.evaluation.stats import wilson
from penchant.reporting.charts import COLOURS, INK, Chart, drawing
from penchant.reporting.figures import (
    Row,
    count,
    figure_of,
    finite_number,
    list_of,
    number_of,
    percent,
    plain_number,
)
from penchant.reporting.histogram import histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RECENT = 0.25  # of the steps in the file: what the policy makes of its pairs now
_DRAWN = 400  # points
_WORST = 10
_LEAST = 2

_QUARTERS = (
    ("chosen up, rejected down: what the labels ask for", True, False),
    ("both up", True, True),
    ("both down: displacement where the chosen fell", False, False),
    ("chosen down, rejected up: the wrong way round", False, True),
)
# Figures of the evaluation about length: label, key, how to print it.
_LENGTH = (
    ("The rule “the longer response wins” alone is right", "longer_wins_accuracy", percent),
    ("Reward accuracy above that rule's", "reward_accuracy_over_longer_wins", percent),
    ("Reward accuracy where lengths are alike", "reward_accuracy_length_matched", percent),
    ("Reward accuracy at equal length (length-controlled)", "reward_accuracy_length_controlled", percent),
    ("Preference accuracy at equal length, before", "preference_accuracy_length_controlled_reference", percent),
    ("Preference accuracy at equal length, after", "preference_accuracy_length_controlled_policy", percent),
    ("How far being right goes with length (slope)", "reward_accuracy_length_slope", plain_number),
)


class PairFigures(NamedTuple):
    """A training pair's own figures when it was last seen; None where the run did not log them."""

    id: str
    step: float
    chosen: float | None
    rejected: float | None
    chosen_tokens: float | None
    rejected_tokens: float | None


def recent_pairs(lines: Sequence[Row]) -> list[PairFigures]:
    """Return the pairs of the last quarter of the steps, each as it was last seen."""
    recent = lines[len(lines) - max(1, round(RECENT * len(lines))) :] if lines else []
    newest: dict[str, PairFigures] = {}
    keys = ("chosen_log_ratio", "rejected_log_ratio", "chosen_tokens", "rejected_tokens")
    for line in recent:
        columns = [list_of(line, key) for key in keys]
        for place, name in enumerate(list_of(line, "id")):
            values = [finite_number(column[place]) if place < len(column) else None for column in columns]
            newest[str(name)] = PairFigures(str(name), number_of(line, "step") or 0.0, *values)
    return list(newest.values())


def quarters_chart(pairs: Sequence[PairFigures]) -> Chart | None:
    """Draw where chosen and rejected responses went, pair by pair; None where nothing was logged."""
    points = [
        (pair.chosen, pair.rejected) for pair in pairs if pair.chosen is not None and pair.rejected is not None
    ]
    if len(points) < _LEAST:
        return None
    rows = []
    for label, up, rejected_up in _QUARTERS:
        inside = sum((x >= 0) == up and (y >= 0) == rejected_up for x, y in points)
        rows.append((label, count(inside), percent(inside / len(points))))
    thin = -(-len(points) // _DRAWN)

    def draw(axes: Axes) -> None:
        for zero in (axes.axhline, axes.axvline):
            zero(0, color=INK, linewidth=1, alpha=0.6)
        fell = [point for point in points[::thin] if point[0] < 0]
        rose = [point for point in points[::thin] if point[0] >= 0]
        styles: tuple[dict[str, Any], ...] = (
            {"marker": "o", "color": COLOURS[0], "label": "chosen rose"},
            {"marker": "x", "color": COLOURS[1], "label": "chosen fell"},
        )
        for group, style in zip((rose, fell), styles, strict=True):
            if group:
                axes.plot(*zip(*group, strict=True), linestyle="none", markersize=4, alpha=0.75, **style)
        axes.set(xlabel="chosen: policy - reference (nats)", ylabel="rejected: policy - reference")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)

    said = "; ".join(f"{label}: {share}" for label, _, share in rows)
    title = "Where the responses of a pair went"
    svg = drawing("quarters", title, f"{count(len(points))} pairs. {said}.", draw, size=(4.4, 3.4))
    drawn = f"; drawn is one in {thin}" if thin > 1 else ""
    note = f"{count(len(points))} pairs of the last quarter of the steps, as last seen{drawn}"
    return Chart(title, svg, ("", "pairs", "share"), tuple(rows), note)


def fallen_pairs(pairs: Sequence[PairFigures]) -> list[tuple[str, str, str, str]]:
    """Return the pairs whose chosen response fell the most: id, step, log-ratios of chosen and rejected (nats)."""
    fell = [pair for pair in pairs if pair.chosen is not None and pair.chosen < 0]
    worst = sorted(fell, key=lambda pair: (pair.chosen or 0.0, pair.id))[:_WORST]
    return [(pair.id, plain_number(pair.step), _shown(pair.chosen), _shown(pair.rejected)) for pair in worst]


def length_chart(pairs: Sequence[PairFigures]) -> Chart | None:
    """Draw how long chosen and rejected responses are, in scored tokens."""
    sides = {
        "chosen": [int(pair.chosen_tokens) for pair in pairs if pair.chosen_tokens is not None],
        "rejected": [int(pair.rejected_tokens) for pair in pairs if pair.rejected_tokens is not None],
    }
    known = {name: values for name, values in sides.items() if values and min(values) >= 0}
    return histogram("pair-lengths", "Length of responses (tokens)", known, unit="token") if known else None


def length_rows(pairs: Sequence[PairFigures]) -> list[tuple[str, str, str]]:
    """Return how far margins go with length: what is meant, its share with interval, of how many pairs."""
    known = [pair for pair in pairs if None not in pair]
    sized = [pair for pair in pairs if pair.chosen_tokens is not None and pair.rejected_tokens is not None]
    longer = [pair for pair in sized if _longer(pair) > 0]
    uneven = [pair for pair in sized if _longer(pair) != 0]
    rows = [("The chosen response is the longer one", *_share(len(longer), len(uneven)))] if uneven else []
    for what, sign in (("longer", 1), ("shorter", -1)):
        group = [pair for pair in known if _longer(pair) * sign > 0]
        if group:
            right = sum((pair.chosen or 0) > (pair.rejected or 0) for pair in group)
            rows.append((f"Told right where the chosen one is the {what}", *_share(right, len(group))))
    return rows


def token_rows(pairs: Sequence[PairFigures]) -> list[tuple[str, str, str]]:
    """Return mean and median of the responses' tokens: what, chosen, rejected; [] where they were not logged."""
    chosen = [pair.chosen_tokens for pair in pairs if pair.chosen_tokens is not None]
    rejected = [pair.rejected_tokens for pair in pairs if pair.rejected_tokens is not None]
    if not chosen or not rejected:
        return []
    figures = (("Mean tokens", fmean), ("Median tokens", median))
    return [(name, plain_number(figure(chosen)), plain_number(figure(rejected))) for name, figure in figures]


def length_figures(summary: Row) -> list[tuple[str, Row]]:
    """Return what the evaluation says about length on held-out pairs."""
    rows = ((label, figure_of(summary, key, show)) for label, key, show in _LENGTH)
    return [(label, figure) for label, figure in rows if figure]


LENGTH_KEYS = frozenset(key for _, key, _ in _LENGTH)


def _longer(pair: PairFigures) -> float:
    return (pair.chosen_tokens or 0.0) - (pair.rejected_tokens or 0.0)


def _share(part: int, whole: int) -> tuple[str, str]:
    found = wilson(part, whole)
    return f"{percent(found.value)} ({percent(found.low)} to {percent(found.high)})", f"{count(whole)} pairs"


def _shown(value: float | None) -> str:
    return "" if value is None else plain_number(value)
