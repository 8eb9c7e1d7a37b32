"""The frontier of a sweep as inline SVG: accuracy against KL, every run with both intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from penchant.reporting.charts import COLOURS, INK, Chart, cut, drawing, stand_in
from penchant.reporting.figures import percent, plain_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Range = tuple[float, float]

_NAMED = 12  # points; the names of more would lie over each other, and the table has them
_LONGEST = 24


class FrontierPoint(NamedTuple):
    """A run in the plane.

    Attributes:
        name: What the run is called; any text.
        accuracy: A fraction.
        accuracy_interval: Its 95 % interval.
        kl: Nats per answer.
        kl_interval: Its 95 % interval.
        on_frontier: Whether no other run is at least as good in both and better in one.
        wins: Whether it was chosen.
    """

    name: str
    accuracy: float
    accuracy_interval: Range
    kl: float
    kl_interval: Range
    on_frontier: bool
    wins: bool


def frontier_chart(points: Sequence[FrontierPoint]) -> Chart:
    """Draw runs by KL and accuracy, those on the frontier joined, and the start model at KL 0 and chance.

    Kinds of runs differ in shape and filling too, so no colour is needed to tell them apart.

    Args:
        points: At least one.
    """
    title = "Accuracy against distance from the reference"
    names = {place: cut(point.name, _LONGEST) for place, point in enumerate(points[:_NAMED])}
    rows = tuple(
        (
            point.name,
            percent(point.accuracy),
            " to ".join(map(percent, point.accuracy_interval)),
            plain_number(point.kl),
            " to ".join(map(plain_number, point.kl_interval)),
            _kind(point),
        )
        for point in points
    )
    description = "; ".join(
        f"{row[0]}: accuracy {row[1]} ({row[2]}), KL {row[3]} ({row[4]}) {row[5]}" for row in rows
    )
    svg = drawing(
        "frontier",
        title,
        f"Validation accuracy over KL of {len(points)} runs. {description}.",
        lambda axes: _draw(axes, points),
        size=(6.2, 3.9),
        words={stand_in(place, name): name for place, name in names.items()},
    )
    note = (
        "x: KL(policy || reference), nats per answer; y: validation pairs won against the reference; lines: 95% "
        "intervals; star: the winner; filled: on the frontier; dashed: chance"
    )
    columns = ("run", "accuracy", "95% interval", "KL", "95% interval", "")
    return Chart(title, svg, columns, rows, note)


def _kind(point: FrontierPoint) -> str:
    return "winner" if point.wins else "on the frontier" if point.on_frontier else ""


def _draw(axes: Axes, points: Sequence[FrontierPoint]) -> None:
    axes.axhline(0.5, color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
    first = sorted((point.kl, point.accuracy) for point in points if point.on_frontier)
    axes.plot(*zip(*first, strict=True), color=COLOURS[0], linewidth=1.2, alpha=0.7)
    for place, point in enumerate(points):
        colour = COLOURS[1] if point.wins else COLOURS[0] if point.on_frontier else INK
        thin = {"color": colour, "linewidth": 1.2, "alpha": 0.7}
        axes.plot(point.kl_interval, [point.accuracy] * 2, **thin)
        axes.plot([point.kl] * 2, point.accuracy_interval, **thin)
        axes.plot(
            [point.kl],
            [point.accuracy],
            marker="*" if point.wins else "o",
            markersize=13 if point.wins else 7,
            markerfacecolor=colour if point.on_frontier else "none",
            markeredgecolor=colour,
        )
        if place < _NAMED:
            axes.annotate(
                stand_in(place, cut(point.name, _LONGEST)),
                (point.kl, point.accuracy),
                xytext=(7, 6),
                textcoords="offset points",
                fontsize=9,
            )
    from matplotlib.ticker import PercentFormatter

    axes.set_xlabel("KL from the reference (nats per answer)")
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.margins(x=0.12, y=0.1)
