"""The report's part on the policy's own answers while it trained: how far, how long, and what they came to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penchant.reporting.charts import COLOURS, Chart, cut, drawing
from penchant.reporting.curves import CURVE_COLUMNS, column
from penchant.reporting.figures import Row, interval_of, list_of, plain_number, text_of
from penchant.reporting.report_answers import Pieces, marked_where_alike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 6
_MOST_CHARACTERS = 1500
_CURVES = (
    ("kl", "KL from the reference on its own answers (nats per token)", "kl_per_token"),
    ("answer-length", "Length of its own answers (tokens)", "mean_tokens"),
)


def generation_charts(lines: Sequence[Row]) -> list[Chart]:
    """Draw KL from the reference, with its intervals, and the length of the answers on the way."""
    return [chart for curve in _CURVES if (chart := _chart(*curve, lines))]


def first_and_last(lines: Sequence[Row]) -> tuple[str, str, list[tuple[Pieces, Pieces]]] | None:
    """Return the first and the last step with answers, and some of their answers to the same prompts, marked."""
    told = [line for line in lines if list_of(line, "answers")]
    if len(told) < 2 or len(list_of(told[0], "answers")) != len(list_of(told[-1], "answers")):
        return None
    both = zip(list_of(told[0], "answers"), list_of(told[-1], "answers"), strict=True)
    texts = [(cut(str(one), _MOST_CHARACTERS), cut(str(other), _MOST_CHARACTERS)) for one, other in both]
    shown = [marked_where_alike(*pair) for pair in texts[:_SHOWN]]
    return text_of(told[0], "step"), text_of(told[-1], "step"), shown


def _chart(name: str, title: str, key: str, lines: Sequence[Row]) -> Chart | None:
    steps, values = column(lines, "step"), column(lines, key)
    present = np.isfinite(values)
    if present.sum() < 2:
        return None
    bounds = [interval_of(line, key) for line in lines]

    def draw(axes: Axes) -> None:
        style: dict[str, Any] = {"color": COLOURS[0], "linewidth": 1.8, "marker": "o", "markersize": 4}
        for step, interval in zip(steps, bounds, strict=True):
            if interval:
                axes.plot([step, step], interval, color=COLOURS[0], linewidth=1.2, alpha=0.7)
        axes.plot(steps[present], values[present], **style)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True, nbins=6)

    known = values[present]
    figures = (known[0], known[-max(1, len(known) // 10) :].mean(), known.min(), known.max())
    row = (title.split(" (", maxsplit=1)[0], *(plain_number(float(figure)) for figure in figures))
    svg = drawing(name, title, f"Over {len(known)} times: from {row[1]} to {row[2]}.", draw)
    note = "upright lines: 95% intervals" if any(bounds) else ""
    return Chart(title, svg, CURVE_COLUMNS, (row,), note)
