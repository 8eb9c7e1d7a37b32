"""What can be shown here: a terminal or a file, its size, its characters."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

from penchant.workflow.doctor.finding import Finding

_GROUP = "terminal"
NARROW = 80


def terminal() -> Iterator[Finding]:
    """Yield where output goes, and what it can be written in."""
    on_screen = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    size = shutil.get_terminal_size()
    what = (
        f"{size.columns} x {size.lines}: bars" if on_screen else "no terminal: plain lines, one every ten seconds"
    )
    if on_screen and size.columns < NARROW:
        what += "; below 80 columns some figures are left out"
        yield Finding(_GROUP, "progress", "warning", what, f"make the window {NARROW} columns wide")
    else:
        yield Finding(_GROUP, "progress", "ok", what)
    yield encoding_finding(getattr(sys.__stdout__, "encoding", None))  # progress may have wrapped the other


def encoding_finding(encoding: str | None) -> Finding:
    """Return whether text of any language can be written in an encoding."""
    named = encoding or "unknown"
    if named.lower().replace("-", "").startswith("utf"):
        return Finding(_GROUP, "encoding", "ok", named)
    what = f"{named}: characters it has not are written as escapes"
    return Finding(
        _GROUP, "encoding", "warning", what, "export PYTHONUTF8=1 (and a UTF-8 locale, such as LANG=C.UTF-8)"
    )
