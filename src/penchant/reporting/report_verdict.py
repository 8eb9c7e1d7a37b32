"""The report's first screen: did it work, with its intervals in one sentence and one picture, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from penchant.evaluation.verdict import held_out_verdict
from penchant.reporting.charts import COLOURS, Chart, cut, drawing, stand_in
from penchant.reporting.figures import (
    NOT_MEASURED,
    Row,
    byte_size,
    count,
    duration,
    figure_of,
    interval_of,
    list_of,
    mapping_of,
    number_of,
    percent,
    plain_number,
)
from penchant.reporting.run_files import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of what both the reference and the policy have: label, key, how to print it.
MEASURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Answers in the style", "pass_rate", percent),
    ("Preference accuracy", "preference_accuracy", percent),
    ("Degenerate answers", "degenerate_rate", percent),
    ("TruthfulQA, MC1", "truthfulqa_mc1", percent),
    ("TruthfulQA, MC2", "truthfulqa_mc2", percent),
)
LOSS = ("Loss per token on held-out examples (nats)", "token_loss", plain_number)
_SAID = {True: ("good", "✓ It worked"), False: ("bad", "✗ It did not work")}


class Verdict(NamedTuple):
    """What the page says first.

    Attributes:
        tone: good, bad or open.
        stamp: In two or three words.
        headline: In a sentence, "" where nothing was evaluated.
        reasons: What it rests on.
        style: The style that was judged, "" where none was.
    """

    tone: str
    stamp: str
    headline: str
    reasons: tuple[str, ...]
    style: str = ""


class Span(NamedTuple):
    """A figure before and after, each with its interval where there is one."""

    label: str
    before: tuple[float, tuple[float, float] | None] | None
    after: tuple[float, tuple[float, float] | None] | None


def verdict_of(summary: Row | None) -> Verdict:
    """Return the verdict that the evaluation wrote, or else what its figures on held-out data say."""
    if summary is None:
        return Verdict("open", "? Not evaluated yet", "", ())
    found = mapping_of(summary, "verdict") or held_out_verdict(summary)
    worked = found.get("worked")
    tone, stamp = _SAID[worked] if isinstance(worked, bool) else ("open", "? It cannot be said")
    headline = str(found.get("headline", "The evaluation states figures but no verdict."))
    reasons = tuple(str(reason) for reason in list_of(found, "reasons"))
    style = str(summary.get("style") or "")
    return Verdict(tone, stamp, headline, reasons, style)


def before_and_after(summary: Row) -> Chart | None:
    """Draw the measures that both models have with their intervals: fractions, or else the loss per token."""
    fractions = [span for label, key, _ in MEASURES if (span := _span(summary, label, key))]
    if fractions:
        return interval_chart("before-after", "Before and after, with 95% intervals", fractions, percent)
    span = _span(summary, LOSS[0], LOSS[1])
    title = "Before and after, with 95% intervals"
    return interval_chart("before-after", title, [span], plain_number) if span else None


def interval_chart(name: str, title: str, spans: Sequence[Span], show: Callable[[float], str]) -> Chart:
    """Draw figures before (hollow circle) and after (filled square) with their intervals, each on a line.

    Args:
        name: Short ASCII name, unique on the page.
        title: What is drawn.
        spans: Top to bottom.
        show: Prints a figure; of fractions the axis goes from 0 to 1.
    """
    rows = tuple((span.label, _shown(span.before, show), _shown(span.after, show)) for span in spans)

    def draw(axes: Axes) -> None:
        for place, span in enumerate(spans):
            axes.text(0, place - 0.42, stand_in(place, cut(span.label, 44)), transform=_left(axes), va="center")
            marks = (("before", span.before, -0.13), ("after", span.after, 0.2))
            for side, figure, offset in marks:
                _draw_span(axes, place + offset, side, figure)
        axes.set(ylim=(len(spans) - 0.55, -0.75), yticks=[])
        axes.spines["left"].set_visible(False)
        if show is percent:
            axes.set(xlim=(-0.02, 1.02))
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.legend(
            *_legend(axes), loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2
        )

    words = {stand_in(place, cut(span.label, 44)): cut(span.label, 44) for place, span in enumerate(spans)}
    said = "; ".join(f"{label}: {before} before, {after} after" for label, before, after in rows)
    svg = drawing(name, title, said, draw, size=(4.8, 0.75 + 0.62 * len(spans)), words=words)
    return Chart(title, svg, ("", "before", "after"), rows, "circle: before; square: after; lines: 95% intervals")


def measures_of(summary: Row) -> list[tuple[str, Row | None, Row | None]]:
    """Return the measures that reference and policy have: label, before, after."""
    rows = (
        (label, figure_of(summary, f"{key}_reference", show), figure_of(summary, f"{key}_policy", show))
        for label, key, show in (*MEASURES, LOSS)
    )
    return [row for row in rows if row[1] or row[2]]


def cost_of(files: RunFiles) -> list[tuple[str, str, str]]:
    """Return what the run cost: name, figure, remark. As the run wrote it, or else what its steps add up to."""
    facts = {**(files.training or {}), **(files.summary or {})}
    seconds = _numbers(files.steps, "seconds")
    memory = [*_numbers(files.steps, "peak_memory_bytes"), *_numbers([facts], "peak_memory_bytes")]
    train = number_of(facts, "train_seconds")
    train = train if train is not None else math.fsum(seconds) if seconds else None
    parts = mapping_of(facts, "part_seconds")
    total = number_of(facts, "total_seconds") or math.fsum(_numbers([parts], *parts)) or None
    tokens = math.fsum(_numbers(files.steps, "tokens"))
    pairs = number_of(facts, "train_pairs") or math.fsum(_numbers(files.steps, "pairs")) or None
    rate = f"{plain_number(round(pairs / train, 2))} pairs a second" if pairs and train else ""
    whole = f"of {duration(total)} in all" if total and train and total > train else ""
    found: list[tuple[str, str, str]] = []
    if train is not None:
        found.append(("Training time", duration(train), ", ".join(filter(None, (whole, rate)))))
    if memory:
        found.append(("Peak memory", byte_size(max(memory)), "of the process"))
    if tokens:
        found.append(("Tokens", count(tokens), "through the model's forward passes"))
    if pairs:
        found.append(("Training pairs", count(pairs), _steps(files)))
    return [*found, ("Energy", NOT_MEASURED, "nothing here reads it")] if found else []


def _steps(files: RunFiles) -> str:
    number = len(files.steps)
    return f"in {count(number)} step{'' if number == 1 else 's'}"


def _numbers(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[float]:
    return [value for row in rows for key in keys if (value := number_of(row, key)) is not None]


def _span(summary: Row, label: str, key: str) -> Span | None:
    sides = []
    for side in ("reference", "policy"):
        value = number_of(summary, f"{key}_{side}")
        sides.append(None if value is None else (value, interval_of(summary, f"{key}_{side}")))
    return Span(label, *sides) if any(sides) else None


def _shown(figure: tuple[float, tuple[float, float] | None] | None, show: Callable[[float], str]) -> str:
    if figure is None:
        return NOT_MEASURED
    value, interval = figure
    return show(value) + (f" ({show(interval[0])} to {show(interval[1])})" if interval else "")


def _left(axes: Axes) -> Any:
    return axes.get_yaxis_transform()


def _draw_span(axes: Axes, height: float, side: str, figure: tuple[float, Any] | None) -> None:
    if figure is None:
        return
    value, interval = figure
    colour = COLOURS[1] if side == "before" else COLOURS[0]
    if interval:
        axes.plot(interval, [height, height], color=colour, linewidth=2.2, solid_capstyle="butt")
    face = "none" if side == "before" else colour
    mark = {"marker": "o" if side == "before" else "s", "markersize": 8, "markerfacecolor": face}
    axes.plot([value], [height], linestyle="none", markeredgecolor=colour, label=side, clip_on=False, **mark)


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    """A mark for each side, once."""
    handles, labels = axes.get_legend_handles_labels()
    first = {label: handle for handle, label in reversed(list(zip(handles, labels, strict=True)))}
    names = [name for name in ("before", "after") if name in first]
    return [first[name] for name in names], names
