"""What `penchant plan` prints: memory by part, time by part, disk, and what to do where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable
from penchant.reporting.figures import byte_size, duration
from penchant.workflow.grading import Estimate
from penchant.workflow.plan import LEVEL, Plan
from penchant.workflow.plan_stages import StagedPlan

_UNKNOWN = "not predicted"


def plain_plan(plan: Plan | StagedPlan) -> dict[str, Any]:
    """Return a plan as plain data, for `--json`."""
    if isinstance(plan, StagedPlan):
        return plan.facts()
    return {**{name: asdict(estimate) for name, estimate in plan.estimates.items()}, **plan.facts()}


def show_plan(plan: Plan, console: Console) -> None:
    """Print the plan."""
    sizes = plan.sizes
    validated = ""
    if plan.validations:
        validated = f" {plan.validations} validations on {plan.held_out_pairs} held-out pairs."
    console.print(
        Text(
            f"{sizes.trained / 1e6:.1f} of {sizes.total / 1e6:.1f} million parameters are trained; "
            f"{sizes.frozen_layers} of {sizes.layers} layers are frozen.\n"
            f"{plan.pairs} pairs, {plan.steps} steps, {plan.micro_batches} micro-batches in the first epoch; "
            f"{plan.machine} ({plan.device}).{validated}"
        )
    )
    console.print(_table("Memory at the peak of a step", plan.parts, byte_size, least=1))
    for name, size in plan.stages.items():
        if size > plan.stages["a step"]:
            console.print(Text(f"{name[0].upper()}{name[1:]} needs more: {byte_size(size)}"))
    console.print(_table("Disk", plan.disk, byte_size, least=1))
    if plan.times:
        console.print(_table("Time", plan.times, duration, least=0.05))
    console.print(_estimates(plan))
    _verdict(console, plan.fits, plan.memory, plan.available, sum(plan.disk.values()), plan.disk_free)
    for note in plan.notes:
        console.print(Text(f"  - {printable(note)}"))


def show_staged_plan(plan: StagedPlan, console: Console) -> None:
    """Print the plan of each stage, then what they come to together."""
    for number, (name, stage) in enumerate(plan.stages.items(), start=1):
        console.print(Text(f"Stage {number} of {len(plan.stages)}, {name}", style="bold"))
        show_plan(stage, console)
        console.print()
    table = Table(title="All stages", title_justify="left", box=None, pad_edge=False)
    for name in ("", "peak memory", "seconds a step", "total time", "disk"):
        table.add_column(name, justify="left" if not name else "right")
    for name, stage in plan.stages.items():
        table.add_row(
            name,
            byte_size(stage.memory.value),
            _shown(stage.step, lambda value: f"{value:.2f}"),
            _shown(stage.total, duration),
            byte_size(sum(stage.disk.values())),
        )
    table.add_row("together", byte_size(plan.memory.value), "", _shown(plan.total, duration), byte_size(plan.disk))
    console.print(table)
    if plan.total is not None:
        interval = f"{duration(plan.total.low)} to {duration(plan.total.high)}"
        console.print(Text(f"Total time, {LEVEL:.0%} interval: {interval}"))
    available = min(stage.available for stage in plan.stages.values())
    _verdict(console, plan.fits, plan.memory, available, plan.disk, plan.disk_free)


def _shown(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    return _UNKNOWN if estimate is None else show(estimate.value)


def _verdict(console: Console, fits: bool, memory: Estimate, available: int, disk: float, disk_free: int) -> None:
    console.print(
        Text(
            f"{'It fits' if fits else 'It may not fit'}: up to {byte_size(memory.high)} of memory, "
            f"{byte_size(available)} are there; {byte_size(disk)} of disk, {byte_size(disk_free)} are free.",
            style="bold" if fits else "bold red",
        )
    )


def _table(title: str, parts: Mapping[str, float], show: Callable[[float], str], *, least: float) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, size in parts.items():
        if size >= least:
            table.add_row(name, show(size))
    return table


def _estimates(plan: Plan) -> Table:
    table = Table(title="Prediction", title_justify="left", box=None, pad_edge=False)
    for name in ("", "expected", f"{LEVEL:.0%} interval"):
        table.add_column(name, justify="left" if not name else "right")
    _add(table, "peak memory", plan.memory, byte_size)
    _add(table, "seconds a step", plan.step, lambda value: f"{value:.2f}")
    _add(table, "total time", plan.total, duration)
    return table


def _add(table: Table, name: str, estimate: Estimate | None, show: Callable[[float], str]) -> None:
    if estimate is None:
        table.add_row(name, _UNKNOWN, "")
    else:
        table.add_row(name, show(estimate.value), f"{show(estimate.low)} to {show(estimate.high)}")
