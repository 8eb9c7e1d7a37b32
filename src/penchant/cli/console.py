"""What the command line looks like: rich progress on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import IO, Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from penchant.cli.pace import Pace
from penchant.cli.progress_view import log_line, terminal_lines
from penchant.workflow.reporter import Advance, Reporter

_PLAIN_SECONDS = 10.0


def make_reporter(*, quiet: bool) -> Reporter:
    """Return the reporter that fits where standard error goes. Results alone go to standard output."""
    if quiet:
        return Reporter()
    steered = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalReporter() if steered else PlainReporter()


def write_what_can_be_written(*streams: Any) -> None:
    """Let streams that are not UTF-8 write what they have no character for as an escape, instead of failing."""
    for stream in streams:
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
        if not encoding.startswith("utf") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Return text without control characters, which could steer a terminal."""
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
        else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


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
    """A bar with rate, time left and memory, and below it the figures that matter."""

    def __init__(self) -> None:
        self._console = Console(file=cast(IO[str], _Forgiving(sys.stderr)))
        self._parts: list[_Part] = []
        self._live: Live | None = None

    def note(self, text: str) -> None:
        """Print one line, dimmed."""
        self._console.print(Text(printable(text), style="dim"))

    def warn(self, text: str) -> None:
        """Print one line that stands out."""
        self._console.print(Text(f"Warning: {printable(text)}", style="bold yellow"))

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Show a bar while the body runs; what runs within it has its own below."""
        part = _Part(printable(what), total)
        self._parts.append(part)
        if self._live is None:
            self._live = Live(
                console=self._console, get_renderable=self._shown, refresh_per_second=4, redirect_stdout=False
            )
            self._live.start()
        try:
            yield part.advance
        finally:
            self._end(part)

    def _end(self, part: _Part) -> None:
        part.pace.end(time.monotonic())
        if len(self._parts) == 1 and self._live is not None:
            self._live.stop()  # which leaves the last lines where they are
            self._live = None
            self._parts.remove(part)
        else:
            self._parts.remove(part)
            self._console.print(self._lines(part))

    def _shown(self) -> Group:
        return Group(*(self._lines(part) for part in list(self._parts)))

    def _lines(self, part: _Part) -> Group:
        options = self._console.options
        lines = terminal_lines(
            part.what,
            part.pace,
            time.monotonic(),
            part.values,
            width=options.max_width,
            ascii_only=options.ascii_only,
        )
        return Group(*lines)


class PlainReporter(Reporter):
    """A line every few seconds, for logs."""

    def note(self, text: str) -> None:
        """Print one line."""
        with contextlib.suppress(OSError):  # who reads the log may be gone
            print(printable(text), file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Print how far the body is, now and then, and at its end, whichever way it ends."""
        part = _Part(what, total)
        said = time.monotonic()

        def advance(count: int, **values: Any) -> None:
            nonlocal said
            part.advance(count, **values)
            now = time.monotonic()
            if now - said >= _PLAIN_SECONDS and part.pace.done != total:
                said = now
                self.note(log_line(what, part.pace, now, part.values))

        try:
            yield advance
        finally:
            if part.pace.done:
                now = time.monotonic()
                part.pace.end(now)
                self.note(log_line(what, part.pace, now, part.values))


class _Part:
    """A long part that is followed: how far it is, and its last figures."""

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.pace = Pace(total, time.monotonic())
        self.values: dict[str, Any] = {}

    def advance(self, count: int, *, before: bool = False, **values: Any) -> None:
        self.pace.add(count, time.monotonic(), values, before=before)
        self.values = values or self.values
