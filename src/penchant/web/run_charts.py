"""The curves of a run, and of several over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penchant.reporting.charts import COLOURS, DASHES, Chart, drawing
from penchant.reporting.curves import CURVE_COLUMNS, learning_curves, smoothed
from penchant.reporting.figures import finite_number, plain_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

MOST_TOGETHER = 6  # runs in one chart that can still be told apart
_POINTS = 500
_FEW = 15  # points, each of which is shown
_LINES = [(COLOURS[place % 3], DASHES[(place + place // 3) % 3]) for place in range(MOST_TOGETHER)]
_ANSWERS = (
    ("kl", "Generated answers: KL from the reference (nats per token)", "kl_per_token"),
    ("lengths", "Generated answers: mean length (tokens)", "mean_tokens"),
    ("repetition", "Generated answers: repeated four-grams (fraction)", "repetition"),
)
_TOGETHER = (
    ("loss", "Loss", "loss"),
    ("margins", "Reward margin (beta x nats)", "rewards/margins"),
    ("accuracy", "Pairs with chosen above rejected (fraction)", "rewards/accuracies"),
    ("chosen", "Reward of chosen responses (beta x nats)", "rewards/chosen"),
    ("rejected", "Reward of rejected responses (beta x nats)", "rewards/rejected"),
    ("gradient", "Gradient norm before clipping", "grad_norm"),
)


def run_charts(
    steps: Sequence[Row], validations: Sequence[Row], generations: Sequence[Row], at_reference: float | None
) -> list[Chart]:
    """Return every curve of a run that there are figures for: of its steps, held-out pairs and own answers.

    Args:
        steps: Lines of `metrics.jsonl` in order.
        validations: Lines of `validation.jsonl`.
        generations: Lines of `generations.jsonl`.
        at_reference: The loss where policy == reference; None where it is not known.
    """
    charts = learning_curves(steps, validations=validations, loss_at_reference=at_reference)
    answers = (lines_chart(name, title, {"policy": generations}, key) for name, title, key in _ANSWERS)
    return [*charts, *(chart for chart in answers if chart is not None)]


def overlay_charts(runs: Mapping[str, Sequence[Row]]) -> list[Chart]:
    """Return the curves of several runs, at most six, each figure in one chart.

    Args:
        runs: Lines of `metrics.jsonl` by the run's name.
    """
    charts = (lines_chart(f"together-{name}", title, runs, key) for name, title, key in _TOGETHER)
    return [chart for chart in charts if chart is not None]


def lines_chart(name: str, title: str, runs: Mapping[str, Sequence[Row]], key: str) -> Chart | None:
    """Return one figure of some runs over their steps; None where no run has it.

    Args:
        name: Short ASCII name, unique on the page.
        title: What is drawn, with its unit.
        runs: Rows with a `step` by the run's name; the name may be any text.
        key: Of the figure.
    """
    series = {run: points for run, rows in runs.items() if (points := _points(rows, key))}
    if not series:
        return None
    drawn = {run: _thinned(points) for run, points in series.items()}
    words = {f"@{place}@": _short(run) for place, run in enumerate(series)}

    def draw(axes: Axes) -> None:
        for place, points in enumerate(drawn.values()):
            colour, dash = _LINES[place % len(_LINES)]
            at, values = (np.array(part, dtype=np.float64) for part in zip(*points, strict=True))
            style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": "o" if len(at) < _FEW else ""}
            if len(at) >= _FEW:
                axes.plot(at, values, color=colour, linewidth=0.8, alpha=0.3)
            mean = smoothed(values, _width(points))
            axes.plot(at, mean, linewidth=2, markersize=4, label=f"@{place}@", **style)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True, nbins=6)
        if len(drawn) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)

    rows = tuple(_row(run, [value for _, value in points]) for run, points in series.items())
    told = "; ".join(f"{row[0]} from {row[1]} to {row[2]}" for row in rows)
    svg = drawing(name, title, told, draw, size=(4.4, 2.6 + 0.2 * len(drawn)), words=words)
    block = max(-(-len(points) // _POINTS) for points in series.values())
    thin = "" if block == 1 else f"thin: means of {block} steps; "
    note = f"{thin}thick: running mean" if any(_width(points) > 1 for points in drawn.values()) else ""
    return Chart(title, svg, CURVE_COLUMNS, rows, note)


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    found = ((row["step"], finite_number(row.get(key))) for row in rows)
    return [(step, value) for step, value in found if value is not None]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of as many points each as leave at most five hundred."""
    block = -(-len(points) // _POINTS)
    parts = (points[start : start + block] for start in range(0, len(points), block))
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part)) for part in parts
    ]


def _width(points: Sequence[object]) -> int:
    """Over how many points the mean runs."""
    return 1 if len(points) < _FEW else max(1, len(points) // 15) | 1


def _row(label: str, values: Sequence[float]) -> tuple[str, ...]:
    tail = values[-max(1, len(values) // 10) :]
    figures = (values[0], sum(tail) / len(tail), min(values), max(values))
    return (label, *(plain_number(figure) for figure in figures))


def _short(name: str) -> str:
    return name if len(name) <= 40 else "…" + name[-39:]
