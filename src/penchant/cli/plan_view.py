"""What `penchant plan` prints: memory by part, time, disk, and what to do where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable
from penchant.reporting.report import byte_size, duration
from penchant.workflow.grading import Estimate
from penchant.workflow.plan import LEVEL, Plan


def show_plan(plan: Plan, console: Console) -> None:
    """Print the plan."""
    sizes = plan.sizes
    console.print(
        Text(
            f"{sizes.trained / 1e6:.1f} of {sizes.total / 1e6:.1f} million parameters are trained; "
            f"{sizes.frozen_layers} of {sizes.layers} layers are frozen.\n"
            f"{plan.pairs} pairs, {plan.steps} steps, {plan.micro_batches} micro-batches in the first epoch; "
            f"{plan.machine} ({plan.device})."
        )
    )
    console.print(_bytes_table("Memory at the peak of a step", plan.parts))
    if plan.stages["loading"] > plan.stages["a step"]:
        console.print(Text(f"Loading needs more: {byte_size(plan.stages['loading'])}"))
    console.print(_bytes_table("Disk", plan.disk))
    console.print(_estimates(plan))
    verdict = "It fits" if plan.fits else "It may not fit"
    console.print(
        Text(
            f"{verdict}: up to {byte_size(plan.memory.high)} of memory, {byte_size(plan.available)} are there; "
            f"{byte_size(sum(plan.disk.values()))} of disk, {byte_size(plan.disk_free)} are free.",
            style="bold" if plan.fits else "bold red",
        )
    )
    for note in plan.notes:
        console.print(Text(f"  - {printable(note)}"))


def _bytes_table(title: str, parts: Mapping[str, float]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, size in parts.items():
        if size >= 1:
            table.add_row(name, byte_size(size))
    return table


def _estimates(plan: Plan) -> Table:
    table = Table(title="Prediction", title_justify="left", box=None, pad_edge=False)
    for name in ("", "expected", f"{LEVEL:.0%} interval"):
        table.add_column(name, justify="left" if not name else "right")
    _add(table, "peak memory", plan.memory, byte_size)
    _add(table, "seconds a step", plan.step, lambda value: f"{value:.2f}")
    _add(table, "total time", plan.total, duration)
    return table


def _add(table: Table, name: str, estimate: Estimate, show: Callable[[float], str]) -> None:
    table.add_row(name, show(estimate.value), f"{show(estimate.low)} to {show(estimate.high)}")
