"""The report's data ledger: what became of every row that came in, adding up to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from penchant.reporting.charts import COLOURS, INK, Chart, cut, drawing, stand_in
from penchant.reporting.figures import count, percent
from penchant.reporting.run_files import LedgerRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REASONS = 20
_HATCHES = ("", "///", "xxx", "...")


class Ledger(NamedTuple):
    """What became of the rows.

    Attributes:
        total: All of them.
        chart: One bar, a part a fate.
        rows: Fate, reason, rows, share, examples; the commonest reasons first.
        others: How many reasons are not among them.
        other_rows: How many rows those have.
    """

    total: int
    chart: Chart
    rows: tuple[tuple[str, str, str, str, str], ...]
    others: int
    other_rows: int


def ledger_of(rows: Sequence[LedgerRow] | None) -> Ledger | None:
    """Return the ledger as the page shows it; None where there is none, or it is of no row."""
    total = sum(row.rows for row in rows or ())
    if not rows or not total:
        return None
    shown = rows[:_REASONS]
    table = tuple(
        (row.fate, row.reason, count(row.rows), percent(row.rows / total), ", ".join(row.examples))
        for row in shown
    )
    fates: dict[str, int] = {}
    for row in rows:
        fates[row.fate] = fates.get(row.fate, 0) + row.rows
    rest = rows[_REASONS:]
    return Ledger(total, fate_bar(fates, total), table, len(rest), sum(row.rows for row in rest))


def fate_bar(fates: dict[str, int], total: int) -> Chart:
    """Draw one bar whose parts are the fates; they differ in hatching, too."""
    rows = tuple((fate, count(rows), percent(rows / total)) for fate, rows in fates.items())
    rows = (*rows, ("all", count(total), percent(1.0)))
    names = {place: f"{cut(fate, 20)} {percent(rows / total)}" for place, (fate, rows) in enumerate(fates.items())}

    def draw(axes: Axes) -> None:
        left = 0.0
        for place, rows in enumerate(fates.values()):
            colour = COLOURS[place % 3]
            hatch = _HATCHES[place % 4]
            axes.barh(
                0,
                rows / total,
                left=left,
                height=0.5,
                facecolor=colour if not hatch else "none",
                edgecolor=colour,
                hatch=hatch,
                label=stand_in(place, names[place]),
            )
            left += rows / total
        axes.plot([0, 1], [-0.3, -0.3], color=INK, linewidth=0)
        axes.set(xlim=(0, 1), ylim=(-0.3, 0.3), yticks=[], xticks=[])
        axes.axis("off")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2)

    said = "; ".join(f"{fate} {share}" for fate, _, share in rows[:-1])
    words = {stand_in(place, name): name for place, name in names.items()}
    title = "What became of the rows"
    svg = drawing("fates", title, f"Of {count(total)} rows: {said}.", draw, size=(6.4, 0.75), words=words)
    return Chart(title, svg, ("", "rows", "share"), rows)
