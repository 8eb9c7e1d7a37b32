"""How fast a long part gets on: its rate, and how long it will still take, with an interval."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

_RECENT = 20  # reports that the rate is taken over
_REMEMBERED = 1000  # reports that the time left is told from
_ENOUGH = 3  # reports before anything is said about the time left
_STANDARD_ERRORS = 1.96


class Pace:
    """Counts what was done, and tells from it how fast that is.

    Args:
        total: What is to be done; 0 = not known.
        now: The time at which it begins, seconds of any clock.
    """

    def __init__(self, total: int, now: float) -> None:
        self.total, self.done = total, 0
        self.began = self.ended = now
        self.over = False
        # what each report counted, and the seconds since the one before
        self._here: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._unit = ""

    def add(self, count: int, now: float, figures: Mapping[str, Any], *, before: bool = False) -> None:
        """Count what was done since the last report; what was done `before` the part began tells no speed."""
        self.done += count
        if before:
            return
        seconds = max(1e-9, now - self.ended)
        self._here.append((count, seconds))
        if "tokens" in figures and figures.get("seconds"):
            self._unit = " tok"
            self._recent.append((figures["tokens"], figures["seconds"]))
        else:
            self._recent.append((count, seconds))
        self.ended = now

    def end(self, now: float) -> None:
        """Stop the clock."""
        self.ended, self.over = now, True

    def elapsed_seconds(self, now: float) -> float:
        """Return the seconds since it began, or from its beginning to its end."""
        return (self.ended if self.over else now) - self.began

    def rate(self) -> str:
        """Return the rate of the last reports, such as "1,240 tok/s" or "3.1/s"; empty where none is known."""
        recent = list(self._recent)  # a screen asks from a thread of its own, while reports come in
        seconds = sum(each for _, each in recent)
        if not seconds:
            return ""
        rate = sum(count for count, _ in recent) / seconds
        if rate and rate < 0.1:
            return f"{1 / rate:,.0f} s each"
        return f"{rate:,.{0 if rate >= 10 else 1}f}{self._unit}/s"

    def left_seconds(self, now: float) -> tuple[float, float] | None:
        """Return the seconds that are left and half the width of their 95 % interval; None where nobody knows.

        The seconds of a report are taken as its count times a rate, and scatter independently with a variance in
        proportion to the count: a ratio estimate, whose own uncertainty grows with the square of what is left.
        The first report, in which caches and kernels warm up, is left out as soon as there are enough others.
        """
        seen = list(self._here)
        seen = seen[1:] if len(seen) > _ENOUGH else seen
        counted = sum(count for count, _ in seen)
        todo = self.total - self.done
        if not self.total or len(seen) < _ENOUGH or not counted:
            return None
        each = sum(seconds for _, seconds in seen) / counted
        scatter = sum((seconds - each * count) ** 2 for count, seconds in seen) / (len(seen) - 1)
        variance = scatter * len(seen) / counted  # of the seconds of one
        half = _STANDARD_ERRORS * math.sqrt(variance * todo * (1 + todo / counted))
        return max(0.0, each * todo - (now - self.ended)), half


def clock(seconds: float) -> str:
    """Return a time as people read it: "45 s", "3:20", "1:02:30"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
