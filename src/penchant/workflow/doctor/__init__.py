"""What this machine and this installation are fit for: looked at and tried out, a line each, with the remedy.

Nothing is downloaded and no address is asked; what is tried on the disk is removed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from penchant.workflow.doctor import (
    disk,
    environment,
    kernels,
    machine,
    models,
    processes,
    same_numbers,
    terminal,
    versions,
)
from penchant.workflow.doctor.finding import Finding
from penchant.workflow.reporter import Reporter

__all__ = ["Finding", "examine"]

_PARTS: tuple[Callable[[], Iterator[Finding]], ...] = (
    versions.versions,
    machine.devices,
    machine.processor,
    machine.memory,
    kernels.kernels,
    disk.disk,
    models.models,
    same_numbers.same_numbers,
    processes.several_processes,
    versions.optional,
    terminal.terminal,
    environment.environment,
)


def examine(reporter: Reporter | None = None) -> list[Finding]:
    """Return everything that was looked at, group by group; the reporter follows the groups."""
    found: list[Finding] = []
    with (reporter or Reporter()).progress("Looking at this machine", len(_PARTS)) as advance:
        for part in _PARTS:
            found.extend(part())
            advance(1)
    return found
