"""Charts of a run as inline SVG: the same numbers give the same bytes, and each has its figures as a table.

A chart has no colour of its own for text, axes and grid (`currentColor`), no `style` attribute (so a page may
forbid them), no id that could clash with another chart's, and a title and description for a screen reader.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from penchant.reporting.figures import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's blue, vermilion and green; a page brightens them for a dark background.
COLOURS = ("#0072b2", "#d55e00", "#009e73")
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
_PLACES = ("d", "x", "y")  # hundredths of a point are enough to draw by, and keep pages small
_LONG = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
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


_DRAWING = RLock()  # matplotlib's settings and text layout belong to the process, not to a thread


class Chart(NamedTuple):
    """A drawn chart and the table that says the same."""

    title: str
    svg: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Bar(NamedTuple):
    """A fraction with its 95 % interval; `measured` is False for a figure that another run measured."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    measured: bool = True


def fraction_bars(name: str, title: str, bars: Sequence[Bar]) -> Chart:
    """Draw fractions as horizontal bars with their intervals, each label on a line of its own.

    Args:
        name: Short ASCII name, unique on the page.
        title: What the fractions are.
        bars: Top to bottom; one that was not measured in this run is drawn hollow.
    """
    rows = tuple((f"{bar.label}{_origin(bar)}", percent(bar.value), _interval_text(bar.interval)) for bar in bars)
    description = "; ".join(f"{row[0]}: {row[1]} {row[2]}".strip() for row in rows)
    words = {_placeholder(row): _drawn_label(bar) for row, bar in enumerate(bars)}

    def draw(axes: Axes) -> None:
        for row, bar in enumerate(bars):
            _draw_bar(axes, row, bar)
        axes.set(xlim=(0, 1), ylim=(len(bars) - 0.6, -0.75), yticks=[])
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.spines["left"].set_visible(False)

    svg = drawing(name, title, description, draw, size=(4.4, 0.45 + 0.5 * len(bars)), words=words)
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
    """Return what `draw` draws as inline SVG; every chart that matplotlib makes is made here.

    Args:
        name: Short ASCII name, unique on the page.
        title: What is drawn, for a screen reader.
        description: What there is to see, for a screen reader.
        draw: Draws on the axes; what it draws in `INK` gets the colour of the page's text.
        size: Width and height, inches.
        words: Texts that stand for what was drawn: any text from elsewhere, which must not be read as markup.
    """
    import matplotlib  # here, so that commands which draw at their end begin at once
    from matplotlib.figure import Figure

    with _DRAWING, matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": f"penchant-{name}"}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return _svg(figure, name, title, description, words or {})


def stand_in(place: int, text: str) -> str:
    """Return what to draw in the place of a text from elsewhere: about as wide, and never read as markup.

    The text itself goes into `words` of `drawing`.
    """
    return f"@{place}@".ljust(len(text) + 1, "n")


def cut(text: str, most: int) -> str:
    """Return a text that is at most so long, with "…" where something is missing."""
    return text if len(text) <= most else text[: most - 1] + "…"


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
    return cut(bar.label, 36 - len(_origin(bar))) + _origin(bar)


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
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img"}
    root.attrib |= {"aria-labelledby": f"{name}-title {name}-description", "stroke-linejoin": "round"}
    root.attrib |= _step_axis(figure)
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
    if key in _PLACES:
        return _LONG.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r"(^|url\()#(?=[mp][0-9a-f]{10})", rf"\g<1>#{name}-", value)
