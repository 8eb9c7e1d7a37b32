"""What stands in the lines of a long part: on a terminal no wider than it is, in a log one line each time."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from penchant.cli.pace import Pace, clock

_FIGURES = (  # the first four that there are
    ("loss", "loss"),
    ("rewards/accuracies", "accuracy"),
    ("rewards/margins", "margin"),
    ("rewards/chosen", "chosen reward"),
    ("rewards/desirable", "desirable reward"),
    ("rewards/undesirable", "undesirable reward"),
    ("perplexity", "perplexity"),
    ("grad_norm", "gradient norm"),
    ("learning_rate", "learning rate"),
)
_MOST_FIGURES = 4
_WHAT, _NARROW_WHAT = 30, 22
_NARROW = 100  # columns
_BAR, _LEAST_BAR = 40, 6
_GAP = "  "


def named_figures(values: Mapping[str, Any]) -> list[str]:
    """Return the figures that matter, at most four, each with its name: of pairs or of examples to imitate."""
    shown = dict(values)
    if "loss" in shown and "logps/chosen" in shown and "logps/rejected" not in shown:
        shown["perplexity"] = math.exp(min(shown["loss"], 99.0))  # of SFT: its loss is nats a token
    found = [f"{name} {_number(shown[key])}" for key, name in _FIGURES if key in shown]
    return found[:_MOST_FIGURES]


def _number(value: float) -> str:
    if value and abs(value) < 0.0005:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def peak_memory(values: Mapping[str, Any]) -> str:
    """Return the most memory used so far, as the figures say it or else of this process; empty where not known."""
    size = values.get("peak_memory_bytes") or _process_peak_bytes()
    return f"{size / 1e9:.2f} GB" if size else ""


def _process_peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def log_line(what: str, pace: Pace, now: float, values: Mapping[str, Any]) -> str:
    """Return how far a long part is in one line of plain text."""
    parts = [_count(pace), pace.rate()]
    left = pace.left_seconds(now)
    if pace.over:
        parts[0] += f" in {clock(pace.elapsed_seconds(now))}"
    elif left is not None:
        low, high = clock(left[0] - left[1]), clock(left[0] + left[1])
        parts.append(f"{clock(left[0])} left" + (f" ({low} to {high})" if low != high else ""))
    parts += [peak_memory(values), *named_figures(values)]
    return f"{what}: {', '.join(part for part in parts if part)}"


def terminal_lines(
    what: str, pace: Pace, now: float, values: Mapping[str, Any], *, width: int, ascii_only: bool = False
) -> list[Text]:
    """Return a long part's lines for a terminal: a bar with rate, time left and memory, then the figures.

    Args:
        what: Its name, printable.
        pace: How far it is.
        now: The time, on the clock of `pace`.
        values: The last figures.
        width: Columns; no line is wider. What does not fit is left out, the least important first.
        ascii_only: Whether the bar is drawn in ASCII.
    """
    lines = [_bar_line(what, pace, now, values, width, ascii_only)]
    figures = named_figures(values)
    while figures and cell_len(_GAP + _GAP.join(figures)) > width:
        figures.pop()
    if figures:
        lines.append(Text(_GAP + _GAP.join(figures)))
    return lines


def _bar_line(what: str, pace: Pace, now: float, values: Mapping[str, Any], width: int, ascii_only: bool) -> Text:
    widest = _WHAT if width >= _NARROW else _NARROW_WHAT
    time, close = _time(pace, now, "+-" if ascii_only else "\u00b1")
    memory = peak_memory(values)
    tails = [[_count(pace), pace.rate(), f"{time} {close}", memory], [_count(pace), pace.rate(), time, memory]]
    tails += [tails[1][:3], [_count(pace), time], [_count(pace)]]
    fits = [_GAP.join(part.strip() for part in tail if part.strip()) for tail in tails]
    wanted = min(cell_len(what), widest) + len(_GAP)
    text = next((one for one in fits if cell_len(one) + wanted <= width), fits[-1])
    room = width - cell_len(text) - len(_GAP)
    if cell_len(what) <= min(_WHAT, room - 2 * len(_GAP) - _LEAST_BAR):  # a whole name before a long bar
        widest = max(widest, cell_len(what))
    name = max(0, min(widest, room))
    room = width - cell_len(text) - len(_GAP) - name
    bar = min(_BAR, room - len(_GAP)) if pace.total else 0
    line = Text(set_cell_size(_shortened(what, name), name))
    if bar >= _LEAST_BAR:
        line.append(_GAP).append_text(_bar(pace, bar, ascii_only))
    line.append(_GAP + text)
    line.truncate(width)
    return line


def _time(pace: Pace, now: float, give_or_take: str) -> tuple[str, str]:
    """The time left, and how sure that is; of what is over how long it took."""
    if pace.over:
        return f"in {clock(pace.elapsed_seconds(now))}", ""
    left = pace.left_seconds(now)
    if left is None:
        return f"{clock(pace.elapsed_seconds(now))} so far", ""
    return f"{clock(left[0])} left", f"{give_or_take}{clock(left[1])}" if left[1] >= 1 else ""


def _count(pace: Pace) -> str:
    return f"{pace.done:,}/{pace.total:,}" if pace.total else f"{pace.done:,}"


def _shortened(what: str, width: int) -> str:
    return what if cell_len(what) <= width else set_cell_size(what, max(0, width - 3)).rstrip() + "..."


def _bar(pace: Pace, width: int, ascii_only: bool) -> Text:
    filled = min(width, width * pace.done // pace.total)
    full, empty = ("#", "-") if ascii_only else ("\u2501", "\u2500")
    return Text.assemble((full * filled, "green"), (empty * (width - filled), "bright_black"))
