"""Following a run from outside: what its steps write is printed as TRL prints it, while it trains."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from penchant.integrations.trl.step_log import StepLog, validation_line
from penchant.web.line_tail import LineTail
from penchant.workflow.reporter import Advance, Reporter


class Following(Reporter):
    """Passes everything on to another reporter, and hears of every step.

    Args:
        base: The other reporter.
        on_step: Told the figures of each step.
    """

    def __init__(self, base: Reporter, on_step: Callable[[dict[str, Any]], None]) -> None:
        self._base, self._on_step = base, on_step

    def note(self, text: str) -> None:
        """Pass it on."""
        self._base.note(text)

    def warn(self, text: str) -> None:
        """Pass it on."""
        self._base.warn(text)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Pass it on; a count with a step's number is a step."""
        with self._base.progress(what, total) as base:

            def advance(count: int, **figures: Any) -> None:
                base(count, **figures)
                if "step" in figures:
                    self._on_step(figures)

            yield advance


class Printer:
    """Prints log lines as a run writes what they are made of.

    Args:
        run: The run directory.
        log: Makes the lines of steps.
    """

    def __init__(self, run: Path, log: StepLog) -> None:
        self._log = log
        self._pairs, self._validations = LineTail(run / "pairs.jsonl"), LineTail(run / "validation.jsonl")

    def on_step(self, figures: dict[str, Any]) -> None:
        """Print what is due after a step."""
        self.validated()
        _, lines = self._pairs.read()
        own = next((pairs for pairs in map(_parsed, lines) if pairs["step"] == figures["step"]), None)
        if own is not None and (entry := self._log.add(figures, own)) is not None:
            show(entry)

    def validated(self) -> None:
        """Print validations that have come."""
        _, lines = self._validations.read()
        for line in lines:
            show(validation_line(_parsed(line), self._log.course, means=self._log.means))


def show(entry: dict[str, float]) -> None:
    """Print a log line as transformers does, four digits a figure."""
    print({name: f"{value:.4g}" for name, value in entry.items() if name != "step"}, flush=True)


def _parsed(line: Any) -> dict[str, Any]:
    return json.loads(line.text)
