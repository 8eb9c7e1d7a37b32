"""Curves of several runs in one chart: each has its colour, its dashes, and its name at the end of its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from penchant.reporting.charts import COLOURS, INK, Chart, cut, drawing, stand_in
from penchant.reporting.curves import CURVES, FELL, Floats, column, thin_and_smooth
from penchant.reporting.figures import plain_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN = 6
RUN_COLOURS = (*COLOURS, "#a8407f", "#806600", INK)
_DASHES: tuple[Any, ...] = (
    "solid",
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (10, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
_NAME = 22
_GAP = 0.09  # of the height between two names


class Overlay(NamedTuple):
    """A figure that is drawn for several runs."""

    name: str
    title: str
    key: str
    lines: str = "steps"


_CURVES = {curve.name: curve for curve in CURVES}
OVERLAYS = (
    Overlay("loss", "Loss", "loss"),
    Overlay("held-out-loss", "Loss on held-out pairs", "loss", "validations"),
    Overlay("margins", "Reward margin (beta x nats)", "rewards/margins"),
    Overlay("accuracy", _CURVES["accuracy"].title, "rewards/accuracies"),
    Overlay("chosen", "Reward of the chosen response (beta x nats)", "rewards/chosen"),
    Overlay("fell", FELL.title, "chosen_fell_fraction"),
    Overlay("gradient", _CURVES["gradient"].title, "grad_norm"),
    Overlay("kl", "KL from the reference on own answers (nats per token)", "kl_per_token", "generations"),
)


def overlay(shown: Overlay, names: Sequence[str], runs: Sequence[Sequence[Mapping[str, object]]]) -> Chart | None:
    """Draw one figure of several runs, smoothed; None where none of them has it.

    Args:
        shown: What to draw.
        names: What the runs are called; any text.
        runs: The rows of each, at most `MOST_DRAWN`; one that has nothing of the figure is left out.
    """
    columns = [(column(rows, "step"), column(rows, shown.key)) for rows in runs]
    there = [place for place, (_, values) in enumerate(columns) if np.isfinite(values).any()]
    if not there:
        return None
    labels = {place: cut(names[place], _NAME) for place in there}
    smooth = shown.lines == "steps"
    rows = tuple(_row(names[place], columns[place][1]) for place in there)

    def draw(axes: Axes) -> None:
        ends = {}
        for place in there:
            steps, values = columns[place]
            at, points = thin_and_smooth(steps, values) if smooth else (steps, values)
            present = np.isfinite(points)
            style: dict[str, Any] = {"color": RUN_COLOURS[place], "linestyle": _DASHES[place], "linewidth": 1.8}
            axes.plot(at[present], points[present], marker="" if smooth and present.sum() > 1 else "o", **style)
            ends[place] = float(points[present][-1])
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True, nbins=6)
        _name_lines(axes, ends, labels)

    said = "; ".join(f"{row[0]} from {row[1]} to {row[2]}" for row in rows)
    words = {stand_in(place, label): label for place, label in labels.items()}
    svg = drawing(f"runs-{shown.name}", shown.title, f"{said}.", draw, size=(6.2, 3.1), words=words)
    note = (
        "running means; the names stand where the lines end" if smooth else "the names stand where the lines end"
    )
    return Chart(shown.title, svg, ("run", "first", "last tenth", "lowest", "highest"), rows, note)


def _row(name: str, values: Floats) -> tuple[str, ...]:
    present = values[np.isfinite(values)]
    tail = present[-max(1, len(present) // 10) :]
    return (name, *map(plain_number, map(float, (present[0], tail.mean(), present.min(), present.max()))))


def _name_lines(axes: Axes, ends: Mapping[int, float], labels: Mapping[int, str]) -> None:
    """Write the names at the right, each with a piece of its line, moved apart where lines end close together."""
    low, high = axes.get_ylim()
    heights = apart([(end - low) / ((high - low) or 1.0) for end in ends.values()])
    for place, height in zip(ends, heights, strict=True):
        style: dict[str, Any] = {"color": RUN_COLOURS[place], "linestyle": _DASHES[place], "linewidth": 1.8}
        whole = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([1.015, 1.085], [height, height], **style, **whole)
        axes.text(1.1, height, stand_in(place, labels[place]), va="center", fontsize=9, **whole)
    axes.set_ylim(low, high)


def apart(heights: Sequence[float]) -> list[float]:
    """Return heights of which no two are closer than a line of text, in the same order."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    found = list(heights)
    for below, above in pairwise(order):
        found[above] = max(found[above], found[below] + _GAP)
    over = max(0.0, max(found, default=0.0) - 1.0)
    limit = 1.0
    for place in reversed(order) if over else ():
        found[place] = min(found[place], limit)
        limit = found[place] - _GAP
    return found
