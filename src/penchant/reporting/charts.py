"""Charts of a run as inline SVG: the same numbers give the same bytes, and each has its figures as a table.

A chart has no colour of its own for text, axes and grid (`currentColor`), no `style` attribute (so a page may
forbid them), no id that could clash with another chart's, and a title and description for a screen reader.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Okabe and Ito's blue, vermilion and green; a page brightens them for a dark background.
COLOURS = ("#0072b2", "#d55e00", "#009e73")
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
MAX_POINTS = 500
CURVE_COLUMNS = ("", "first", "last tenth", "lowest", "highest")
_TOO_LARGE = 1e30
_PLAIN_FROM, _PLAIN_BELOW, _WHOLE_FROM = 1e-3, 1e6, 1e4
INK = "#010203"  # stands for currentColor while matplotlib draws
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "path.simplify": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "text.usetex": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Chart(NamedTuple):
    """A drawn chart and the table that says the same."""

    title: str
    svg: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Curve(NamedTuple):
    """What one chart of `metrics.jsonl` shows.

    Attributes:
        name: Short ASCII name, unique on the page.
        title: What is drawn, with its unit.
        series: The label of each metric's key.
        guide: Where a dashed line lies, and what it means.
        noisy: Whether a running mean helps; a schedule is drawn as it is.
        each: What a point is.
    """

    name: str
    title: str
    series: Mapping[str, str]
    guide: tuple[float, str] | None = None
    noisy: bool = True
    each: str = "step"


class Bar(NamedTuple):
    """A fraction with its 95 % interval; `measured` is False for a figure that another run measured."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    measured: bool = True


CURVES = (
    Curve("loss", "Loss", {"loss": "loss"}),
    Curve(
        "rewards",
        "Rewards (beta x nats)",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected", "rewards/margins": "margin"},
        (0.0, "the reference"),
    ),
    Curve(
        "accuracy",
        "Pairs with chosen above rejected (fraction)",
        {"rewards/accuracies": "accuracy"},
        (0.5, "chance"),
    ),
    Curve(
        "logps",
        "Log-probability of a response (nats)",
        {"logps/chosen": "chosen", "logps/rejected": "rejected"},
    ),
    Curve("gradient", "Gradient norm before clipping", {"grad_norm": "gradient norm"}),
    Curve("rate", "Learning rate", {"learning_rate": "learning rate"}, noisy=False),
)


def learning_curves(
    metrics: Sequence[Mapping[str, object]], *, held_out: bool = False, loss_at_reference: float | None = None
) -> list[Chart]:
    """Draw every curve that the rows of `metrics.jsonl`, or `validation.jsonl`, hold a finite number for.

    Args:
        metrics: The rows in the order of their steps, each with a numeric `step`.
        held_out: Whether they are validations; then the titles say so, and no running mean is drawn.
        loss_at_reference: The loss where policy == reference, for a dashed line; None where it is not known.
    """
    steps = _column(metrics, "step")
    charts: list[Chart] = []
    start = None if loss_at_reference is None else (loss_at_reference, "policy = reference")
    for curve in (CURVES[0]._replace(guide=start), *CURVES[1:]):
        columns = {label: _column(metrics, key) for key, label in curve.series.items()}
        series = {label: values for label, values in columns.items() if np.isfinite(values).any()}
        if series:
            charts.append(_draw_curve(_of_held_out(curve) if held_out else curve, steps, series))
    return charts


def _of_held_out(curve: Curve) -> Curve:
    title = f"Held-out pairs: {curve.title}"
    return curve._replace(name=f"held-out-{curve.name}", title=title, noisy=False, each="validation")


def fraction_bars(name: str, title: str, bars: Sequence[Bar]) -> Chart:
    """Draw fractions as horizontal bars with their intervals, each label on a line of its own.

    Args:
        name: Short ASCII name, unique on the page.
        title: What the fractions are.
        bars: Top to bottom; one that was not measured in this run is drawn hollow.
    """
    with _settings(name):
        figure = Figure(figsize=(4.4, 0.45 + 0.5 * len(bars)), layout="constrained")
        axes = figure.add_subplot()
        for row, bar in enumerate(bars):
            _draw_bar(axes, row, bar)
        axes.set(xlim=(0, 1), ylim=(len(bars) - 0.6, -0.75), yticks=[])
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.spines["left"].set_visible(False)
        words = {_placeholder(row): _drawn_label(bar) for row, bar in enumerate(bars)}
        rows = tuple(
            (f"{bar.label}{_origin(bar)}", percent(bar.value), _interval_text(bar.interval)) for bar in bars
        )
        description = "; ".join(f"{row[0]}: {row[1]} {row[2]}".strip() for row in rows)
        svg = _svg(figure, name, title, description, words)
    return Chart(title, svg, ("", "share", "95% interval"), rows)


def drawing(
    name: str,
    title: str,
    description: str,
    draw: Callable[[Axes], None],
    *,
    size: tuple[float, float] = (4.4, 2.7),
    words: Mapping[str, str] | None = None,
) -> str:
    """Return what `draw` draws as inline SVG in the manner of all charts.

    Args:
        name: Short ASCII name, unique on the page.
        title: What is drawn, for a screen reader.
        description: What there is to see, for a screen reader.
        draw: Draws on the axes; what it draws in `INK` gets the colour of the page's text.
        size: Width and height, inches.
        words: Texts that stand for what was drawn: any text from elsewhere, which must not be read as markup.
    """
    with _settings(name):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return _svg(figure, name, title, description, words or {})


def percent(value: float) -> str:
    """Return a fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}%"


def finite_number(value: object) -> float | None:
    """Return a value as a number, or None for what is no number or too large to be drawn or printed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _TOO_LARGE else None


def plain_number(value: float) -> str:
    """Return a number with four significant digits, without an exponent where that reads well."""
    if value == 0:
        return "0"
    if not _PLAIN_FROM <= abs(value) < _PLAIN_BELOW:
        return f"{value:.3g}"
    whole = f"{value:,.0f}"
    return whole if value == round(value) or abs(value) >= _WHOLE_FROM else f"{value:.4g}"


def smoothed(values: Floats, width: int) -> Floats:
    """Return the centred running mean over `width` points, gaps left out, shorter at the two ends."""
    present = np.isfinite(values)
    window = np.ones(width)
    sums = np.convolve(np.where(present, values, 0.0), window, mode="same")
    counts = np.convolve(present.astype(np.float64), window, mode="same")
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)


def _column(metrics: Sequence[Mapping[str, object]], key: str) -> Floats:
    numbers = (finite_number(row.get(key)) for row in metrics)
    return np.array([math.nan if number is None else number for number in numbers], dtype=np.float64)


def _thinned(values: Floats, block: int) -> Floats:
    padded = np.append(values, np.full(-len(values) % block, np.nan)).reshape(-1, block)
    present = np.isfinite(padded)
    counts = present.sum(axis=1)
    sums = np.where(present, padded, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw_curve(curve: Curve, steps: Floats, series: Mapping[str, Floats]) -> Chart:
    block = math.ceil(len(steps) / MAX_POINTS)
    at = _thinned(steps, block)
    width = max(1, len(at) // 15) | 1 if curve.noisy else 1
    rows = tuple(_row(label, values) for label, values in series.items())
    with _settings(curve.name):
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        axes = figure.add_subplot()
        if curve.guide:
            axes.axhline(curve.guide[0], color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
        for (label, values), colour, dash in zip(series.items(), COLOURS, DASHES, strict=False):
            points = _thinned(values, block)
            style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": "" if len(at) > 1 else "o"}
            axes.plot(at, points, color=colour, linewidth=0.8, alpha=0.35)
            axes.plot(at, smoothed(points, width), linewidth=2, label=label, **style)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True, nbins=6)
        if len(series) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2)
        description = "; ".join(f"{row[0]} from {row[1]} to {row[2]}" for row in rows)
        svg = _svg(figure, curve.name, curve.title, f"Over {len(steps)} {curve.each}s: {description}.", {})
    return Chart(curve.title, svg, CURVE_COLUMNS, rows, _note(curve, block, width))


def _note(curve: Curve, block: int, width: int) -> str:
    thin = f"each {curve.each}" if block == 1 else f"means of {block} {curve.each}s"
    thick = f"thick: running mean over {width * block} {curve.each}s" if width > 1 else ""
    thin = f"thin: {thin}" if thick else thin
    guide = f"dashed line: {plain_number(curve.guide[0])}, {curve.guide[1]}" if curve.guide else ""
    return "; ".join(part for part in (thin, thick, guide) if part)


def _row(label: str, values: Floats) -> tuple[str, ...]:
    present = values[np.isfinite(values)]
    tail = present[-max(1, len(present) // 10) :]
    figures = (present[0], tail.mean(), present.min(), present.max())
    return (label, *(plain_number(float(figure)) for figure in figures))


def _draw_bar(axes: Axes, row: int, bar: Bar) -> None:
    colour = COLOURS[min(row, 2)]
    face = colour if bar.measured else "none"
    axes.barh(row, bar.value, height=0.4, facecolor=face, edgecolor=colour, linewidth=1.5, alpha=0.85)
    if bar.interval:
        low, high = bar.interval
        axes.plot([low, high], [row, row], color=INK, linewidth=1.5, marker="|", markersize=8)
    axes.text(0, row - 0.27, _placeholder(row), ha="left", va="bottom")
    axes.text(1, row - 0.27, percent(bar.value), ha="right", va="bottom", fontweight="bold")


def _interval_text(interval: tuple[float, float] | None) -> str:
    return f"{percent(interval[0])} to {percent(interval[1])}" if interval else ""


def _placeholder(row: int) -> str:
    return f"@{row}@"


def _origin(bar: Bar) -> str:
    return "" if bar.measured else " (not this run)"


def _drawn_label(bar: Bar) -> str:
    room = 36 - len(_origin(bar))
    text = bar.label if len(bar.label) <= room else bar.label[: room - 1] + "…"
    return text + _origin(bar)


_DRAWING = RLock()  # matplotlib's settings and text layout belong to the process, not to a thread


@contextmanager
def _settings(name: str) -> Iterator[None]:
    with _DRAWING, matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": f"penchant-{name}"}):
        yield


def _svg(figure: Figure, name: str, title: str, description: str, words: Mapping[str, str]) -> str:
    buffer = io.BytesIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        _make_inline(element, name, words)
    for definitions in root.findall("defs"):
        if definitions.find("style") is not None:  # it would apply to the whole page
            root.remove(definitions)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", **_step_axis(figure)}
    root.attrib |= {"aria-labelledby": f"{name}-title {name}-description", "stroke-linejoin": "round"}
    for position, (tag, text) in enumerate((("title", title), ("description", description))):
        element = ElementTree.Element("desc" if position else "title", id=f"{name}-{tag}")
        element.text = text
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _step_axis(figure: Figure) -> dict[str, str]:
    """Where the axis of steps begins and ends, as shares of the width, and at which steps."""
    axes = figure.axes[0]
    if axes.get_xlabel() != "step":
        return {}
    box, (first, last) = axes.get_position(), axes.get_xlim()
    return {"data-steps": f"{box.x0:.4f} {box.x1:.4f} {first:.6g} {last:.6g}"}


def _make_inline(element: ElementTree.Element, name: str, words: Mapping[str, str]) -> None:
    element.tag = element.tag.rpartition("}")[2]
    style = element.attrib.pop("style", "")
    found = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    found |= dict(re.findall(r"([\w-]+):\s*([^;]+)", style))
    found.pop("font-family", None)
    if element.tag == "g":
        found.pop("id", None)
    element.attrib = {key: _own(key, value, name) for key, value in found.items()}
    if element.text:
        element.text = words.get(element.text, element.text)


def _own(key: str, value: str, name: str) -> str:
    if value == INK:
        return "currentColor"
    if key == "id":
        return f"{name}-{value}"
    return re.sub(r"(^|url\()#(?=[mp][0-9a-f]{10})", rf"\g<1>#{name}-", value)
