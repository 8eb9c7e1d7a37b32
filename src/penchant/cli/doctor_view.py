"""What `penchant doctor` prints: a line for each thing it looked at, and the remedies last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant import __version__
from penchant.cli.console import printable
from penchant.workflow.doctor.finding import Finding

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}
_NAMES_ONLY = "versions"  # a group of many short lines: what is ok of it stands in one


def plain_findings(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as plain data, for `--json`; `ok` is false when something needs mending."""
    return {"ok": fit(findings), "penchant": __version__, "findings": [asdict(finding) for finding in findings]}


def fit(findings: Sequence[Finding]) -> bool:
    """Return whether nothing needs mending before Penchant is used."""
    return all(finding.state != "error" for finding in findings)


def findings_block(findings: Sequence[Finding]) -> str:
    """Return the findings as plain text to paste into a question: the home folder is `~`, and no key is in it."""
    lines = [f"penchant {__version__}"]
    for group, members in _groups(findings):
        fine = [f"{one.name} {one.what}" for one in members if one.state == "ok"]
        wrong = [f"{one.state}: {one.name}: {one.what}" for one in members if one.state != "ok"]
        if group == _NAMES_ONLY:
            fine = [", ".join(fine)] if fine else []
        lines += [f"{group}:", *(f"  {line}" for line in [*fine, *wrong])]
    home = str(Path.home())
    text = printable("\n".join(lines))
    return text.replace(home, "~") if len(home) > 1 else text


def show_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings, a group each, then what to do, errors first."""
    rows = [one for one in findings if one.group != _NAMES_ONLY or one.state != "ok"]
    width = max((len(finding.name) for finding in rows), default=0)
    for group, members in _groups(findings):
        console.print(Text(group.capitalize(), style="bold"))
        fine = [f"{one.name} {one.what}" for one in members if one not in rows]
        if fine:
            console.print(Text(printable(", ".join(fine))))
        console.print(_table([one for one in members if one in rows], width))
    wrong = [finding for state in ("error", "warning") for finding in findings if finding.state == state]
    if wrong:
        console.print(Text("\nWhat to do", style="bold"))
    for finding in wrong:
        console.print(
            Text(f"{finding.state}: ", style=_STYLES[finding.state]).append(
                Text(f"{printable(finding.name)}: {printable(finding.remedy)}", style="default")
            )
        )
    errors = sum(finding.state == "error" for finding in wrong)
    if errors:
        console.print(Text(f"\n{errors} to mend before Penchant is used.", style="bold red"))
    else:
        console.print(Text("\nPenchant can be used here.", style="bold"))


def _groups(findings: Sequence[Finding]) -> Iterable[tuple[str, list[Finding]]]:
    for group in dict.fromkeys(finding.group for finding in findings):
        yield group, [finding for finding in findings if finding.group == group]


def _table(findings: Sequence[Finding], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(min_width=2, no_wrap=True)
    table.add_column(min_width=min(width, 24), overflow="fold")
    table.add_column(overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=_STYLES[finding.state])
        table.add_row(state, Text(printable(finding.name)), Text(printable(finding.what)))
    return table
