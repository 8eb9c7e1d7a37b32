"""What results show of themselves in a notebook: small pieces of HTML, without script, style or class.

A notebook brings its own style and takes out of HTML what could do harm, so these pieces are plain tables, `mark`
and pictures. Every text passes the gate of all pages and is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from markupsafe import Markup

from penchant.reporting.charts import Chart
from penchant.reporting.comparison_page import comparison_tables
from penchant.reporting.curves import CURVES, curve_chart
from penchant.reporting.figures import count as whole
from penchant.reporting.figures import number_of, rows_of
from penchant.reporting.page import page_environment, visible

_SHOWN_PAIRS = 5
_SHOWN_CURVES = 3
# A picture has no colours of the page around it, so it brings a ground and an ink of its own.
_STYLE = (
    "<style>svg{color:#1a1a1a;background:#fff;font-family:sans-serif}"
    "@media(prefers-color-scheme:dark){svg{color:#e8e8e8;background:#1b1d21}}</style>"
)


def scores_html(
    rows: Iterable[tuple[str, float, float]], count: int, fates: Mapping[str, int], reasons: Mapping[str, int]
) -> str:
    """Return the first scored pairs as a table, and what became of all rows.

    Args:
        rows: Id, chosen and rejected log-probability of each pair, nats.
        count: How many pairs there are.
        fates: How many rows met each fate.
        reasons: How many rows were cut or dropped for each reason.
    """
    shown = list(islice(rows, _SHOWN_PAIRS))
    return _piece("notebook_scores.html.j2", rows=shown, count=count, fates=fates, reasons=reasons)


def trained_html(run: Path, steps: int, facts: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str:
    """Return a training's curves as pictures with their figures, and what its monitors found.

    Args:
        run: The run directory.
        steps: Optimizer steps.
        facts: What `eval/training.json` holds.
        metrics: The lines of `metrics.jsonl`.
    """
    drawn = filter(None, (curve_chart(curve, metrics) for curve in CURVES))
    charts = list(islice(drawn, _SHOWN_CURVES))
    trained, parameters = number_of(facts, "trained_parameters"), number_of(facts, "parameters")
    pairs = number_of(facts, "train_pairs")
    return _piece(
        "notebook_trained.html.j2",
        run=run,
        steps=steps,
        pairs="" if pairs is None else whole(pairs),
        trained="" if trained is None or parameters is None else f"{whole(trained)} of {whole(parameters)}",
        charts=[(chart, _picture(chart)) for chart in charts],
        findings=rows_of(facts, "findings"),
    )


def evaluation_html(comparison: Mapping[str, Any], run: Path | None) -> str:
    """Return the table of an evaluation: each figure with its interval, and the test of the difference.

    Args:
        comparison: What `eval/comparison.json` holds.
        run: Where its report is, if there is a run.
    """
    return _piece("notebook_evaluation.html.j2", comparison=comparison_tables(comparison), run=run)


def _piece(template: str, **values: Any) -> str:
    return page_environment().get_template(template).render(**values)


def _picture(chart: Chart) -> Markup:
    """A chart as an image that carries its data with it; its description is what is read aloud."""
    head, rest = visible(chart.svg).split(">", 1)
    svg = f'{head} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{_STYLE}{rest}'
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    said = "; ".join(f"{row[0]} from {row[1]} to {row[2]}" for row in chart.rows)
    return Markup('<img width="440" alt="{}" src="data:image/svg+xml;base64,{}">').format(
        visible(f"{chart.title}: {said}"), data
    )
