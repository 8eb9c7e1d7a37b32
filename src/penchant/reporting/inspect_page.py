"""`penchant inspect --html`: one self-contained page on preference pairs, and on what lint found in them.

Whatever the page prints comes from data, so it passes the gate of the report: control characters are made
visible, then Jinja escapes it. The page loads nothing; its one script, pinned by its hash, only searches, sorts
and unfolds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penchant.data.atomic import disk_errors, write_text
from penchant.data.lint import Finding
from penchant.data.statistics import PairLength, pair_length
from penchant.reporting.charts import Chart
from penchant.reporting.histogram import histogram
from penchant.reporting.page import page_environment
from penchant.types import LedgerEntry, PreferencePair

if TYPE_CHECKING:
    from penchant.tokens.show import Piece

PARTS = ("prompt", "chosen", "rejected")
EXCERPT_CHARACTERS = 90


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

    def _repr_html_(self) -> str:
        """What a notebook shows: what lint found, and the pair in focus token by token."""
        template = page_environment().get_template("notebook_inspected.html.j2")
        return template.render(result=self, one=self.focus, parts=PARTS)


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


# -------------------------------------------------------------------------------------------- template


def _token(text: str) -> str:
    """Show the end of a line inside a token."""
    return text.replace("\r\n", "\n").replace("\n", "↵\n")
