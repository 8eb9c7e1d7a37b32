"""Whole numbers as bars side by side, drawn by hand: no library is needed for boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import numpy as np

from penchant.reporting.charts import COLOURS, Chart
from penchant.reporting.figures import plain_number

BINS = 24
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 440, 220, 44, 34, 22


def histogram(name: str, title: str, series: Mapping[str, Sequence[int]], *, unit: str = "word") -> Chart:
    """Draw whole numbers as bars side by side, with their middle and extremes as a table.

    The last bar holds what lies beyond the 99th percentile, so that one very long text does not squeeze the rest.

    Args:
        name: Short ASCII name, unique on the page.
        title: What is counted, with its unit.
        series: At most three lists, by label.
        unit: What is counted, in the singular.
    """
    step, counts = _binned(series)
    columns = ("", "median", "95%", "longest")
    rows = tuple((label, *map(plain_number, _middle(values))) for label, values in series.items())
    description = "; ".join(f"{row[0]}: median {row[1]}, 95% up to {row[2]}, longest {row[3]}" for row in rows)
    svg = _histogram_svg(name, title, description, step, counts, (f"{unit}s", *series))
    return Chart(
        title,
        svg,
        columns,
        rows,
        f"a bar: {step} {unit}{'s' if step > 1 else ''}; the last one: {step * (counts.shape[1] - 1)} and more",
    )


def _middle(values: Sequence[int]) -> tuple[float, float, float]:
    array = np.asarray(values)
    return float(np.percentile(array, 50)), float(np.percentile(array, 95)), float(array.max())


def _binned(series: Mapping[str, Sequence[int]]) -> tuple[int, np.ndarray]:
    """Return the width of a bin, and a row of counts for each series."""
    every = np.concatenate([np.asarray(values) for values in series.values()])
    rough = max(1.0, float(np.percentile(every, 99)) / (BINS - 1))
    power = 10 ** math.floor(math.log10(rough))
    step = math.ceil(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough))
    bins = min(BINS, int(every.max()) // step + 1)
    places = [np.minimum(np.asarray(values) // step, bins - 1) for values in series.values()]
    return step, np.stack([np.bincount(place, minlength=bins) for place in places])


def _histogram_svg(
    name: str, title: str, description: str, step: int, counts: np.ndarray, labels: Sequence[str]
) -> str:
    """`labels`: the unit, then what each row of counts is."""
    box = {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "fill": "currentColor", "font-size": "11"}
    root = ElementTree.Element("svg", box | {"aria-labelledby": f"{name}-title {name}-description"})
    ElementTree.SubElement(root, "title", id=f"{name}-title").text = title
    ElementTree.SubElement(root, "desc", id=f"{name}-description").text = description
    highest, bins = max(1, int(counts.max())), counts.shape[1]
    room = (_WIDTH - _LEFT - 8) / bins
    scale = (_HEIGHT - _BOTTOM - _TOP) / highest
    floor = _HEIGHT - _BOTTOM
    for count in sorted({highest, highest // 2} - {0}):
        height = floor - count * scale
        _line(root, height)
        _label(root, _LEFT - 6, height + 4, plain_number(count), "end")
    for place, column in enumerate(counts.T):
        width = room * 0.86 / len(column)
        for row, count in enumerate(column):
            left = _LEFT + room * (place + 0.07) + width * row
            size = {"x": left, "y": floor - count * scale, "width": width, "height": count * scale}
            bar = {key: f"{value:.1f}" for key, value in size.items()}
            ElementTree.SubElement(root, "rect", bar, fill=COLOURS[row])
    for row, label in enumerate(labels[1:] if len(counts) > 1 else ()):
        left = _WIDTH - 8 - 92 * (len(counts) - row)
        ElementTree.SubElement(root, "circle", cx=f"{left + 5}", cy="7", r="5", fill=COLOURS[row])
        _label(root, left + 15, 11, label, "start")
    _line(root, floor, opacity="1")
    for place in range(0, bins, max(1, math.ceil(bins / 6))):
        _label(root, _LEFT + room * place, floor + 15, plain_number(step * place), "middle")
    _label(root, (_LEFT + _WIDTH) / 2, _HEIGHT - 4, labels[0], "middle")
    return ElementTree.tostring(root, encoding="unicode")


def _line(root: ElementTree.Element, height: float, *, opacity: str = "0.2") -> None:
    ends = {"x1": str(_LEFT), "x2": str(_WIDTH - 8), "y1": f"{height:.1f}", "y2": f"{height:.1f}"}
    ElementTree.SubElement(root, "line", ends, stroke="currentColor", opacity=opacity)


def _label(root: ElementTree.Element, left: float, top: float, text: str, anchor: str) -> None:
    place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "text-anchor": anchor}
    ElementTree.SubElement(root, "text", place).text = text
