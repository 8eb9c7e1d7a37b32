"""`sweep.html`: one self-contained page on a sweep, and the rows of its tables for the terminal.

Names of runs come from what somebody typed, so they pass the gate of all pages: control characters are made
visible, then Jinja escapes them. The page has no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penchant.data.atomic import write_text
from penchant.reporting.figures import duration, percent, plain_number
from penchant.reporting.page import page_environment
from penchant.reporting.sweep_charts import FrontierPoint, frontier_chart

JUDGEMENT = ("run", "validation accuracy", "KL, nats per answer", "KL per token", "chosen fell", "")
COST_PARTS = ("setup", "tokens", "reference", "trunk", "training", "evaluation")
COST = ("run", *COST_PARTS, "in all", "alone")


def write_sweep_page(sweep: Mapping[str, Any], target: Path) -> Path:
    """Write the page of what `sweep.json` holds; it is complete or it is not there.

    Raises:
        DiskError: It cannot be written.
    """
    write_text(target, render_sweep_page(sweep, name=target.resolve().parent.name))
    return target


def render_sweep_page(sweep: Mapping[str, Any], *, name: str) -> str:
    """Return the page; the same figures give the same page."""
    done = [run for run in sweep["runs"] if run["state"] == "finished"]
    return (
        page_environment()
        .get_template("sweep.html.j2")
        .render(
            name=name,
            sweep=sweep,
            done=len(done),
            failed=failed_rows(sweep),
            chart=frontier_chart([_point(run, sweep) for run in done]) if done else None,
            judgement=(JUDGEMENT, judgement_rows(sweep)),
            cost=(COST, cost_rows(sweep)),
            saving=saving(sweep) if done else "",
            test=on_test_pairs(sweep),
        )
    )


def judgement_rows(sweep: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row under `JUDGEMENT` for every finished run."""
    winner = sweep["winner"]["folder"] if sweep["winner"] else None
    return [
        (
            run["name"],
            _share(run, "accuracy"),
            _number(run, "kl"),
            _number(run, "kl_per_token"),
            percent(run["chosen_logps_fell_fraction"]),
            "winner" if run["folder"] == winner else "on the frontier" if run["on_frontier"] else "",
        )
        for run in sweep["runs"]
        if run["state"] == "finished"
    ]


def cost_rows(sweep: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row under `COST` for every finished run, and one for all; seconds."""
    done = [run for run in sweep["runs"] if run["state"] == "finished"]
    rows = [
        (
            run["name"],
            *(_seconds(run["seconds"][part]) for part in COST_PARTS),
            _seconds(sum(run["seconds"].values())),
            _seconds(run["alone_seconds"]),
        )
        for run in done
    ]
    sums = (_seconds(sum(run["seconds"][part] for run in done)) for part in COST_PARTS)
    whole = sweep["seconds"]
    return [*rows, ("all", *sums, _seconds(whole["together"]), _seconds(whole["alone"]))]


def failed_rows(sweep: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and reason of every run that failed."""
    return [(run["name"], run["reason"]) for run in sweep["runs"] if run["state"] == "failed"]


def saving(sweep: Mapping[str, Any]) -> str:
    """Return in one sentence what sharing saved."""
    together, alone = sweep["seconds"]["together"], sweep["seconds"]["alone"]
    count = sum(run["state"] == "finished" for run in sweep["runs"])
    share = 1 - together / alone if alone else 0.0
    return (
        f"{count} run{'' if count == 1 else 's'} took {duration(together)}; each alone, with what the first one "
        f"had to compute, {duration(alone)}: {duration(max(0.0, alone - together))} less ({percent(share)})."
    )


def on_test_pairs(sweep: Mapping[str, Any]) -> str:
    """Return the winner's figures on the test pairs in one sentence; "" before they were looked at."""
    test = (sweep["winner"] or {}).get("test")
    if not test:
        return ""
    return (
        f"On {test['pairs']} test pairs, on which nothing was chosen: accuracy {_share(test, 'accuracy')}, KL "
        f"{_number(test, 'kl')} nats per answer of {plain_number(test['answer_tokens'])} tokens."
    )


def _point(run: Mapping[str, Any], sweep: Mapping[str, Any]) -> FrontierPoint:
    return FrontierPoint(
        run["name"],
        run["accuracy"],
        tuple(run["accuracy_interval"]),
        run["kl"],
        tuple(run["kl_interval"]),
        run["on_frontier"],
        run["folder"] == sweep["winner"]["folder"],
    )


def _share(figures: Mapping[str, Any], name: str) -> str:
    low, high = figures[f"{name}_interval"]
    return f"{percent(figures[name])} [{100 * low:.1f}, {100 * high:.1f}]"


def _number(figures: Mapping[str, Any], name: str) -> str:
    low, high = figures[f"{name}_interval"]
    return f"{_short(figures[name])} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _seconds(value: float) -> str:
    return f"{value:.1f}"
