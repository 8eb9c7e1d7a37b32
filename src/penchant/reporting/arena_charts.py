"""The charts of an arena: win rates, and how the verdict came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penchant.evaluation.arena.betting import HALF, confidence_sequence
from penchant.evaluation.arena.votes import Vote, first_votes, scores_by_prompt
from penchant.reporting.charts import COLOURS, INK, Bar, Chart, drawing, fraction_bars
from penchant.reporting.figures import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_RATERS = 6
_FEWEST = 2


def arena_charts(figures: Mapping[str, Any], votes: Sequence[Vote]) -> list[Chart]:
    """Return what there is to draw: win rates, and the confidence sequence from prompt to prompt.

    Args:
        figures: See `penchant.evaluation.arena.figures.arena_figures`.
        votes: Those that stand, in the order in which they came.
    """
    if figures["win_rate"] is None:
        return []
    bars = [_bar("All raters", figures["win_rate"])]
    raters = [one for one in figures["raters"] if one["win_rate"]]
    if len(raters) > 1:
        bars += [_bar(one["rater"], one["win_rate"]) for one in raters[:_MOST_RATERS]]
    charts = [fraction_bars("arena-rates", f"Win rate of {figures['first']}, a tie being one half", bars)]
    values = scores_by_prompt(first_votes(votes))
    return [*charts, _sequence(values)] if len(values) >= _FEWEST else charts


def _bar(label: str, rate: Mapping[str, Any]) -> Bar:
    low, high = rate["interval"]
    return Bar(label, rate["value"], (low, high))


def _sequence(values: Sequence[float]) -> Chart:
    lows, highs = confidence_sequence(values)
    at = list(range(1, len(values) + 1))

    def draw(axes: Axes) -> None:
        axes.fill_between(at, lows, highs, step="post", color=COLOURS[0], alpha=0.25, linewidth=0)
        axes.plot(at, lows, color=COLOURS[0], drawstyle="steps-post")
        axes.plot(at, highs, color=COLOURS[0], drawstyle="steps-post")
        axes.axhline(HALF, color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
        axes.set(xlabel="prompts voted on", ylim=(0, 1), xlim=(1, len(values)))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.locator_params(axis="x", integer=True, nbins=6)

    title = "Where the win rate can lie, vote by vote"
    marks = sorted({max(1, round(len(values) * part / 4)) for part in range(1, 5)})
    rows = tuple((f"{mark}", percent(lows[mark - 1]), percent(highs[mark - 1])) for mark in marks)
    told = "; ".join(f"after {one} prompts from {low} to {high}" for one, low, high in rows)
    svg = drawing("arena-sequence", title, f"{told}.", draw)
    note = "Decided once the band leaves the dashed line at 50%."
    return Chart(title, svg, ("prompts", "lowest", "highest"), rows, note)
