"""`penchant inspect --html`: one self-contained page on preference pairs, and on what lint found in them.

Whatever the page prints comes from data, so it passes the gate of the report: control characters are made
visible, then Jinja escapes it. The page loads nothing; its one script, pinned by its hash, only searches, sorts
and unfolds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from penchant.data.atomic import disk_errors, write_text
from penchant.data.lint import Finding
from penchant.data.statistics import PairLength, pair_length
from penchant.reporting.charts import COLOURS, Chart, plain_number
from penchant.reporting.page import page_environment
from penchant.types import LedgerEntry, PreferencePair

if TYPE_CHECKING:
    from penchant.tokens.show import Piece

PARTS = ("prompt", "chosen", "rejected")
EXCERPT_CHARACTERS = 90
BINS = 24


@dataclass(frozen=True)
class ShownPair:
    """A pair with all that is known of it.

    Attributes:
        split: Which split it belongs to.
        pair: The pair as text.
        pieces: Its tokens as trained on; empty without a tokenizer, and when tokenising drops the pair.
        fate: What tokenising made of it, None without a tokenizer.
        evidence: What the ledger of a prepared folder says of it, None where there is none.
    """

    split: str
    pair: PreferencePair
    pieces: tuple[Piece, ...] = ()
    fate: LedgerEntry | None = None
    evidence: LedgerEntry | None = None

    @property
    def length(self) -> PairLength:
        """Its lengths in words."""
        return pair_length(self.pair)

    def part(self, name: str) -> tuple[Piece, ...]:
        """Return the tokens of prompt, chosen or rejected."""
        return tuple(piece for piece in self.pieces if piece.part == name)


@dataclass(frozen=True)
class InspectResult:
    """What inspecting a file or folder brought to light.

    Attributes:
        path: What was inspected.
        rows: Usable pairs of each split.
        dropped: Rows that reading left out, by reason.
        figures: `penchant.data.statistics.length_figures` of each split.
        lengths: The lengths of all pairs of all splits.
        findings: What lint found.
        shown: The first pairs, in the order of the splits.
        focus: The pair that was asked for, else the first one.
        tokenizer: Name of the tokenizer, "" without one.
        max_tokens: Window that the pairs were cut to.
        fates: What the ledger of a prepared folder says of all rows: (fate, reason) and how many.
        notes: What a reader should know besides.
    """

    path: Path
    rows: Mapping[str, int]
    dropped: Mapping[str, int]
    figures: Mapping[str, Mapping[str, Any]]
    lengths: Sequence[PairLength]
    findings: Sequence[Finding]
    shown: Sequence[ShownPair]
    focus: ShownPair
    tokenizer: str = ""
    max_tokens: int = 0
    fates: Mapping[tuple[str, str], int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def count(self, severity: str) -> int:
        """Return how many findings are errors, or warnings."""
        return sum(finding.severity == severity for finding in self.findings)


def write_inspect_page(result: InspectResult, target: Path) -> Path:
    """Write the page; it is complete or it is not there.

    Raises:
        DiskError: It cannot be written.
    """
    page = render_inspect_page(result)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, page)
    return target


def render_inspect_page(result: InspectResult) -> str:
    """Return the page; the same result gives the same page."""
    environment = page_environment()
    environment.filters["token"] = _token
    template = environment.get_template("inspect.html.j2")
    return template.render(
        result=result,
        name=result.path.resolve().name,
        total=sum(result.rows.values()),
        charts=length_charts(result.lengths),
        excerpt=excerpt,
        parts=PARTS,
        facts=facts,
    )


def length_charts(lengths: Sequence[PairLength]) -> list[Chart]:
    """Draw how long prompts are, and how long chosen and rejected responses are, in words."""
    if not lengths:
        return []
    chosen, rejected = [one.chosen for one in lengths], [one.rejected for one in lengths]
    return [
        histogram("responses", "Length of responses (words)", {"chosen": chosen, "rejected": rejected}),
        histogram("prompts", "Length of prompts (words)", {"prompt": [one.prompt for one in lengths]}),
    ]


def excerpt(shown: ShownPair) -> str:
    """Return the beginning of the prompt's last turn on one line."""
    text = " ".join(shown.pair.prompt[-1].content.split()) if shown.pair.prompt else ""
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1] + "…"


def facts(shown: ShownPair) -> list[tuple[str, str]]:
    """Return what is known of a pair beside its text: lengths, fates, scores, origin."""
    pair, length = shown.pair, shown.length
    words = f"prompt {length.prompt}, chosen {length.chosen}, rejected {length.rejected}"
    tokens = ", ".join(f"{name} {len(shown.part(name))}" for name in PARTS) if shown.pieces else ""
    numbers = {
        name: getattr(pair, name) for name in ("score_chosen", "score_rejected", "margin", "weight", "confidence")
    }
    scores = ", ".join(f"{name} {value:g}" for name, value in numbers.items() if value is not None)
    found = (
        ("Words", words),
        ("Tokens", tokens),
        ("Tokenising", _fate(shown.fate)),
        ("Preparing", _fate(shown.evidence)),
        ("Scores", scores),
        ("Origin", pair.origin),
        ("Place", f"{Path(pair.source).name}, line {pair.line}" if pair.source else ""),
    )
    return [(name, text) for name, text in found if text]


def _fate(entry: LedgerEntry | None) -> str:
    if entry is None:
        return ""
    why = f"{entry.fate}: {entry.reason}" if entry.reason else f"{entry.fate} whole"
    return f"{why} ({entry.evidence})" if entry.evidence else why


# ------------------------------------------------------------------------------------------- histogram

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 440, 210, 44, 34, 12


def histogram(name: str, title: str, series: Mapping[str, Sequence[int]]) -> Chart:
    """Draw whole numbers as bars side by side, with their middle and extremes as a table.

    The last bar holds what lies beyond the 99th percentile, so that one very long text does not squeeze the rest.

    Args:
        name: Short ASCII name, unique on the page.
        title: What is counted, with its unit.
        series: At most three lists, by label.
    """
    step, counts = _binned(series)
    columns = ("", "median", "95%", "longest")
    rows = tuple((label, *map(plain_number, _middle(values))) for label, values in series.items())
    description = "; ".join(f"{row[0]}: median {row[1]}, 95% up to {row[2]}, longest {row[3]}" for row in rows)
    svg = _histogram_svg(name, title, description, step, counts)
    return Chart(
        title,
        svg,
        columns,
        rows,
        f"a bar: {step} word{'s' if step > 1 else ''}; the last one: {step * (counts.shape[1] - 1)} and more",
    )


def _middle(values: Sequence[int]) -> tuple[float, float, float]:
    array = np.asarray(values)
    return float(np.percentile(array, 50)), float(np.percentile(array, 95)), float(array.max())


def _binned(series: Mapping[str, Sequence[int]]) -> tuple[int, np.ndarray]:
    """Return the width of a bin, and a row of counts for each series."""
    every = np.concatenate([np.asarray(values) for values in series.values()])
    rough = max(1.0, float(np.percentile(every, 99)) / (BINS - 1))
    power = 10 ** math.floor(math.log10(rough))
    step = math.ceil(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough))
    bins = min(BINS, int(every.max()) // step + 1)
    places = [np.minimum(np.asarray(values) // step, bins - 1) for values in series.values()]
    return step, np.stack([np.bincount(place, minlength=bins) for place in places])


def _histogram_svg(name: str, title: str, description: str, step: int, counts: np.ndarray) -> str:
    box = {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "fill": "currentColor", "font-size": "11"}
    root = ElementTree.Element("svg", box | {"aria-labelledby": f"{name}-title {name}-description"})
    ElementTree.SubElement(root, "title", id=f"{name}-title").text = title
    ElementTree.SubElement(root, "desc", id=f"{name}-description").text = description
    highest, bins = max(1, int(counts.max())), counts.shape[1]
    room = (_WIDTH - _LEFT - 8) / bins
    scale = (_HEIGHT - _BOTTOM - _TOP) / highest
    floor = _HEIGHT - _BOTTOM
    for count in sorted({highest, highest // 2} - {0}):
        height = floor - count * scale
        _line(root, height)
        _label(root, _LEFT - 6, height + 4, plain_number(count), "end")
    for place, column in enumerate(counts.T):
        width = room * 0.86 / len(column)
        for row, count in enumerate(column):
            left = _LEFT + room * (place + 0.07) + width * row
            size = {"x": left, "y": floor - count * scale, "width": width, "height": count * scale}
            bar = {key: f"{value:.1f}" for key, value in size.items()}
            ElementTree.SubElement(root, "rect", bar, fill=COLOURS[row])
    _line(root, floor, opacity="1")
    for place in range(0, bins, max(1, math.ceil(bins / 6))):
        _label(root, _LEFT + room * place, floor + 15, plain_number(step * place), "middle")
    _label(root, (_LEFT + _WIDTH) / 2, _HEIGHT - 4, "words", "middle")
    return ElementTree.tostring(root, encoding="unicode")


def _line(root: ElementTree.Element, height: float, *, opacity: str = "0.2") -> None:
    ends = {"x1": str(_LEFT), "x2": str(_WIDTH - 8), "y1": f"{height:.1f}", "y2": f"{height:.1f}"}
    ElementTree.SubElement(root, "line", ends, stroke="currentColor", opacity=opacity)


def _label(root: ElementTree.Element, left: float, top: float, text: str, anchor: str) -> None:
    place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "text-anchor": anchor}
    ElementTree.SubElement(root, "text", place).text = text


# -------------------------------------------------------------------------------------------- template


def _token(text: str) -> str:
    """Show the end of a line inside a token."""
    return text.replace("\r\n", "\n").replace("\n", "↵\n")
