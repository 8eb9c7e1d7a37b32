"""Learning curves: each step raw and smoothed, the held-out pairs beside it, and what happened when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.reporting.charts import COLOURS, DASHES, INK, Chart, drawing
from penchant.reporting.figures import finite_number, plain_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Lines = Sequence[Mapping[str, object]]

MAX_POINTS = 400
CURVE_COLUMNS = ("", "first", "last tenth", "lowest", "highest")
_MARKED = 9  # events; more marks would lie over each other, and the page lists all


class Curve(NamedTuple):
    """What one chart of `metrics.jsonl` shows.

    Attributes:
        name: Short ASCII name, unique on the page.
        title: What is drawn, with its unit.
        series: The label of each metric's key.
        guide: Where a dashed line lies, and what it means.
        noisy: Whether a running mean helps; a schedule is drawn as it is.
    """

    name: str
    title: str
    series: Mapping[str, str]
    guide: tuple[float, str] | None = None
    noisy: bool = True


class Event(NamedTuple):
    """Something that happened after a step."""

    step: float
    what: str


CURVES = (
    Curve("loss", "Loss", {"loss": "loss"}),
    Curve(
        "rewards",
        "Rewards (beta x nats)",
        {
            "rewards/chosen": "chosen",
            "rewards/rejected": "rejected",
            "rewards/desirable": "desirable",
            "rewards/undesirable": "undesirable",
            "rewards/margins": "margin",
        },
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
        {
            "logps/chosen": "chosen",
            "logps/rejected": "rejected",
            "logps/desirable": "desirable",
            "logps/undesirable": "undesirable",
        },
    ),
    Curve("nll", "Negative log-likelihood of the chosen (nats per token)", {"nll": "chosen"}),
    Curve("gradient", "Gradient norm before clipping", {"grad_norm": "gradient norm"}),
    Curve("rate", "Learning rate", {"learning_rate": "learning rate"}, noisy=False),
)
FELL = Curve(
    "fell",
    "Chosen responses below the reference (share)",
    {"chosen_fell_fraction": "share"},
    (0.5, "one half"),
)


def learning_curves(
    metrics: Lines,
    *,
    validations: Lines = (),
    loss_at_reference: float | None = None,
    events: Sequence[Event] = (),
) -> list[Chart]:
    """Draw every curve that the rows of `metrics.jsonl` or `validation.jsonl` hold a finite number for.

    Args:
        metrics: The rows in the order of their steps, each with a numeric `step`.
        validations: Those of held-out pairs, drawn as points beside the steps.
        loss_at_reference: The loss where policy == reference, for a dashed line; None where it is not known.
        events: Marked by their numbers above the curves.
    """
    start = None if loss_at_reference is None else (loss_at_reference, "policy = reference")
    curves = (CURVES[0]._replace(guide=start), *CURVES[1:])
    return [chart for curve in curves if (chart := curve_chart(curve, metrics, validations, events))]


def curve_chart(
    curve: Curve, metrics: Lines, validations: Lines = (), events: Sequence[Event] = ()
) -> Chart | None:
    """Draw one curve; None where the rows hold nothing of it."""
    training, held_out = _series(curve, metrics), _series(curve, validations)
    labels = [label for label in dict.fromkeys(curve.series.values()) if label in training or label in held_out]
    if not labels:
        return None
    steps, points = column(metrics, "step"), column(validations, "step")
    block = max(1, math.ceil(len(steps) / MAX_POINTS))
    width = max(1, len(_thinned(steps, block)) // 15) | 1 if curve.noisy else 1
    rows = [_row(label, training[label]) for label in labels if label in training]
    rows += [_row(f"{label}, held-out", held_out[label]) for label in labels if label in held_out]

    def draw(axes: Axes) -> None:
        if curve.guide:
            axes.axhline(curve.guide[0], color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
        for place, label in enumerate(labels):
            style: dict[str, Any] = {"color": COLOURS[place % 3], "linestyle": DASHES[place % 3]}
            if label in training:
                _draw_steps(axes, steps, training[label], block, width, label, style)
            if label in held_out:
                shown = {"linestyle": "none"} if label in training else {**style, "label": label}
                axes.plot(points, held_out[label], **(style | shown), **_POINTS, clip_on=False)
        _draw_events(axes, events)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True, nbins=6)
        if len(labels) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.04), ncols=3, frameon=False, borderaxespad=0.2)

    said = "; ".join(f"{row[0]} from {row[1]} to {row[2]}" for row in rows)
    over = f"{len(points)} validations" if not training else f"{len(steps)} steps"
    svg = drawing(curve.name, curve.title, f"Over {over}: {said}.", draw)
    return Chart(curve.title, svg, CURVE_COLUMNS, tuple(rows), _note(curve, block, width, bool(held_out)))


_POINTS: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": "none", "linewidth": 1}


def smoothed(values: Floats, width: int) -> Floats:
    """Return the centred running mean over `width` points, gaps left out, shorter at the two ends."""
    present = np.isfinite(values)
    window = np.ones(width)
    sums = np.convolve(np.where(present, values, 0.0), window, mode="same")
    counts = np.convolve(present.astype(np.float64), window, mode="same")
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)


def column(lines: Lines, key: str) -> Floats:
    """Return the numbers under a key, NaN where there is none."""
    numbers = (finite_number(row.get(key)) for row in lines)
    return np.array([math.nan if number is None else number for number in numbers], dtype=np.float64)


def thin_and_smooth(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return at most `MAX_POINTS` places and the running mean there, for a chart of several runs."""
    block = max(1, math.ceil(len(steps) / MAX_POINTS))
    at = _thinned(steps, block)
    return at, smoothed(_thinned(values, block), max(1, len(at) // 15) | 1)


def _series(curve: Curve, lines: Lines) -> dict[str, Floats]:
    columns = {label: column(lines, key) for key, label in curve.series.items()}
    return {label: values for label, values in columns.items() if np.isfinite(values).any()}


def _blocks(values: Floats, block: int) -> Floats:
    return np.append(values, np.full(-len(values) % block, np.nan)).reshape(-1, block)


def _thinned(values: Floats, block: int) -> Floats:
    padded = _blocks(values, block)
    present = np.isfinite(padded)
    counts = present.sum(axis=1)
    sums = np.where(present, padded, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _extremes(values: Floats, block: int) -> tuple[Floats, Floats]:
    """The lowest and the highest of each block, so that no spike is lost where a long run is thinned."""
    padded = _blocks(values, block)
    gap = ~np.isfinite(padded).any(axis=1)
    low = np.where(np.isfinite(padded), padded, np.inf).min(axis=1)
    high = np.where(np.isfinite(padded), padded, -np.inf).max(axis=1)
    return np.where(gap, np.nan, low), np.where(gap, np.nan, high)


def _draw_steps(
    axes: Axes, steps: Floats, values: Floats, block: int, width: int, label: str, style: dict[str, Any]
) -> None:
    at, points = _thinned(steps, block), _thinned(values, block)
    if block > 1:
        axes.fill_between(at, *_extremes(values, block), facecolor=style["color"], alpha=0.22, linewidth=0)
    else:
        axes.plot(at, points, color=style["color"], linewidth=0.8, alpha=0.35)
    marker = "" if len(at) > 1 else "s"
    axes.plot(at, smoothed(points, width), linewidth=2, label=label, marker=marker, **style)


def _draw_events(axes: Axes, events: Sequence[Event]) -> None:
    for number, event in enumerate(events[:_MARKED], start=1):
        axes.axvline(event.step, color=INK, linewidth=0.8, linestyle=(0, (1, 3)), alpha=0.7)
        place = axes.get_xaxis_transform()
        axes.text(event.step, 1.0, str(number), transform=place, ha="center", va="bottom", fontsize=8)


def _note(curve: Curve, block: int, width: int, held_out: bool) -> str:
    thin = "thin: each step" if block == 1 else f"band: lowest to highest of {block} steps"
    thick = f"thick: running mean over {width * block} steps" if width > 1 else ""
    if not curve.noisy and block == 1:
        thin = ""
    points = "circles: held-out pairs" if held_out else ""
    guide = f"dashed line: {plain_number(curve.guide[0])}, {curve.guide[1]}" if curve.guide else ""
    return "; ".join(part for part in (thin, thick, points, guide) if part)


def _row(label: str, values: Floats) -> tuple[str, ...]:
    present = values[np.isfinite(values)]
    tail = present[-max(1, len(present) // 10) :]
    figures = (present[0], tail.mean(), present.min(), present.max())
    return (label, *(plain_number(float(figure)) for figure in figures))
