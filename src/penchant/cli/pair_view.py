"""What `penchant inspect` prints: figures, findings, and one pair with its tokens coloured by mask.

All text of data is stripped of what could steer a terminal before rich sees it, and rich never reads it as markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable
from penchant.data.lint import Finding
from penchant.reporting.inspect_page import PARTS, InspectResult, ShownPair, facts
from penchant.types import Turn

if TYPE_CHECKING:
    from penchant.tokens.show import Piece

_SEVERITY = {"error": "bold red", "warning": "yellow"}
_SCORED = ("black on bright_cyan", "black on cyan")
_NOT_SCORED = "dim"
_BOUNDARY = "bold underline"


def print_inspection(result: InspectResult, *, findings_only: bool) -> None:
    """Print to standard output what was found, or what lint found alone."""
    console = Console(soft_wrap=False)
    if findings_only:
        show_findings(result.findings, console)
    else:
        show_inspection(result, console)


def plain_inspection(result: InspectResult) -> dict[str, Any]:
    """Return the figures, the findings and the pair in focus as plain data, for `--json`."""
    return {
        "data": str(result.path),
        "rows": dict(result.rows),
        "dropped": dict(result.dropped),
        "figures": {name: dict(figures) for name, figures in result.figures.items()},
        "fates": [{"fate": fate, "reason": why, "rows": rows} for (fate, why), rows in result.fates.items()],
        "findings": [{**asdict(finding), "what": finding.what} for finding in result.findings],
        "pair": {"split": result.focus.split, **asdict(result.focus.pair)},
        "notes": list(result.notes),
    }


def show_inspection(result: InspectResult, console: Console) -> None:
    """Print the figures of every split, the findings, and the pair in focus."""
    console.print(_figures(result))
    for note in result.notes:
        console.print(_text(note, "dim"))
    show_findings(result.findings, console)
    show_pair(result.focus, console)


def show_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print each finding with its count, its first places and what to do."""
    if not findings:
        console.print(Text("Lint found nothing.", style="green"))
    for finding in findings:
        head = Text.assemble((finding.severity, _SEVERITY[finding.severity]), f" {finding.check}: {finding.count}")
        console.print(head)
        console.print(Padding(Text(finding.what), (0, 0, 0, 2)))
        console.print(Padding(_text("; ".join(finding.examples), "dim"), (0, 0, 0, 2)))
        console.print(Padding(Text(finding.advice), (0, 0, 0, 2)))


def show_pair(shown: ShownPair, console: Console) -> None:
    """Print one pair: its turns, its two responses, its tokens by mask, and what became of it."""
    pair = shown.pair
    console.print(Rule(_text(f"{pair.id} · {shown.split}, line {pair.line}", "bold")))
    for turn in pair.prompt:
        console.print(_turn(turn))
    console.print(_side("chosen", "green", pair.chosen_lead, pair.chosen))
    console.print(_side("rejected", "red", pair.rejected_lead, pair.rejected))
    console.print(_facts(shown))
    if shown.pieces:
        for part in PARTS:
            console.print(_tokens(part, shown.part(part)))
    elif shown.fate is not None:
        console.print(Text("Not tokenised: it would be left out of training.", style="red"))


def _figures(result: InspectResult) -> Table:
    table = Table(box=None, pad_edge=False)
    columns = ("split", "pairs", "prompt", "chosen", "rejected", "longer is chosen", "longer wins is right")
    for column in columns:
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, figures in result.figures.items():
        middle = [f"{figures['words'][part]['median']:g}" for part in PARTS] if "words" in figures else [""] * 3
        longer = figures.get("longer_wins", {})
        shares = [f"{longer[key]:.1%}" if key in longer else "" for key in ("share", "accuracy")]
        table.add_row(_text(split), str(figures["rows"]), *middle, *shares)
    table.caption = "prompt, chosen, rejected: median words"
    table.caption_justify = "left"
    return table


def _turn(turn: Turn) -> RenderableType:
    calls = _text(f"\ntool calls: {turn.tool_calls}", "dim") if turn.tool_calls else Text()
    return Padding(Group(Text(turn.role, style="bold"), _text(turn.content) + calls), (0, 0, 1, 0))


def _side(title: str, style: str, lead: Sequence[Turn], response: str) -> Panel:
    body = Group(*(_turn(turn) for turn in lead), _text(response))
    return Panel(body, title=Text(title), title_align="left", border_style=style)


def _facts(shown: ShownPair) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in facts(shown):
        table.add_row(Text(name, style="dim"), _text(value))
    return table


def _tokens(part: str, pieces: Sequence[Piece]) -> RenderableType:
    """Return the tokens of a part in runs of one mask, each named, so that the mask also shows without colours."""
    head = Text(f"\n{part}: {len(pieces)} tokens", style="bold")
    return Group(head, *_runs(pieces))


def _runs(pieces: Sequence[Piece]) -> Iterator[RenderableType]:
    position = 0
    for scored, group in groupby(pieces, key=lambda piece: piece.scored):
        run = list(group)
        name = "scored" if scored else "not scored"
        line = Text()
        ids = Text(style="dim")
        for offset, piece in enumerate(run):
            mask = _SCORED[(position + offset) % 2] if scored else _NOT_SCORED
            style = f"{mask} {_BOUNDARY}" if piece.boundary else mask
            line.append(printable(piece.text).replace("\n", "↵\n"), style=style)
            ids.append(f"|{piece.id}| " if piece.boundary else f"{piece.id} ")
        position += len(run)
        yield Padding(Group(Text(f"{name}, {len(run)}", style="italic"), line, ids), (0, 0, 0, 2))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
