"""How workflows speak: notes, and progress of the long parts. The command line gives it a face."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Advance = Callable[..., None]


class Reporter:
    """Says nothing; what a library caller gets."""

    def note(self, text: str) -> None:
        """Say one line."""

    def warn(self, text: str) -> None:
        """Say one line that nobody should miss."""
        self.note(f"Warning: {text}")

    def begin_steps(self, run: Path) -> None:
        """Be told that a run begins its steps, or goes on with them: its logs grow in its directory from here."""

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Follow a long part: the body calls `advance(count, **figures)` as it gets on; total 0 = not known.

        With `before=True` it says what an earlier process did, which tells how far it is and not how fast.
        """

        def advance(count: int, **_: Any) -> None:
            pass

        yield advance
