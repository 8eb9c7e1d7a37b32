"""What the command line looks like: rich progress on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from penchant.workflow.reporter import Advance, Reporter

_PLAIN_SECONDS = 10.0
_FIGURES = (("loss", "loss"), ("rewards/accuracies", "accuracy"), ("rewards/margins", "margin"))


def make_reporter(*, quiet: bool) -> Reporter:
    """Return the reporter that fits where standard error goes. Results alone go to standard output."""
    if quiet:
        return Reporter()
    return TerminalReporter() if sys.stderr.isatty() else PlainReporter()


def printable(text: str) -> str:
    """Return text without control characters, which could steer a terminal."""
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
        else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def _figures(values: dict[str, Any]) -> str:
    parts = [f"{name} {values[key]:.3f}" for key, name in _FIGURES if key in values]
    return "  ".join(parts)


def _how_far(done: int, total: int, seconds: float) -> str:
    if not total:
        return f"{done}, {done / max(1e-9, seconds):.0f}/s"
    return f"{done}/{total}, {seconds / max(1, done) * (total - done):.0f} s left"


class _Forgiving:
    """A stream on which no writing is an error: a run outlives its terminal, and whoever reads its log."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write if it can be."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if it can be."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class TerminalReporter(Reporter):
    """Bars with rate, time left and the figures that matter."""

    def __init__(self) -> None:
        self._console = Console(file=cast(IO[str], _Forgiving(sys.stderr)))

    def note(self, text: str) -> None:
        """Print one line, dimmed."""
        self._console.print(Text(printable(text), style="dim"))

    def warn(self, text: str) -> None:
        """Print one line that stands out."""
        self._console.print(Text(f"Warning: {printable(text)}", style="bold yellow"))

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Show a bar while the body runs."""
        columns = (
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
        )
        with Progress(*columns, console=self._console) as bars:
            task = bars.add_task(what, total=total or None, figures="", rate="")
            started, done = time.monotonic(), 0

            def advance(count: int, **values: Any) -> None:
                nonlocal done
                done += count
                rate = f"{done / max(1e-9, time.monotonic() - started):.1f}/s"
                bars.update(task, advance=count, figures=_figures(values), rate=rate)

            yield advance


class PlainReporter(Reporter):
    """A line every few seconds, for logs."""

    def note(self, text: str) -> None:
        """Print one line."""
        with contextlib.suppress(OSError):  # who reads the log may be gone
            print(printable(text), file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Print how far the body is, now and then and at its end."""
        started = said = time.monotonic()
        done = 0

        def advance(count: int, **values: Any) -> None:
            nonlocal done, said
            done += count
            now = time.monotonic()
            if now - said >= _PLAIN_SECONDS or done == total:
                said = now
                self.note(f"{what}: {_how_far(done, total, now - started)}  {_figures(values)}".rstrip())

        yield advance
