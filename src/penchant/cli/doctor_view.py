"""What `penchant doctor` prints: a line for each thing it looked at, and the remedies last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable
from penchant.workflow.doctor import Finding

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def plain_findings(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as plain data, for `--json`; `ok` is false when something needs mending."""
    return {"ok": fit(findings), "findings": [asdict(finding) for finding in findings]}


def fit(findings: Sequence[Finding]) -> bool:
    """Return whether nothing needs mending before Penchant is used."""
    return all(finding.state != "error" for finding in findings)


def show_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings as tables, a group each, then what to do, errors first."""
    width = max((len(finding.name) for finding in findings), default=0)
    for group in dict.fromkeys(finding.group for finding in findings):
        table = Table(title=group.capitalize(), title_justify="left", box=None, pad_edge=False, show_header=False)
        table.add_column(min_width=width)
        for finding in findings:
            if finding.group == group:
                state = Text(finding.state, style=_STYLES[finding.state])
                table.add_row(Text(printable(finding.name)), state, Text(printable(finding.what)))
        console.print(table)
        console.print()
    wrong = [finding for state in ("error", "warning") for finding in findings if finding.state == state]
    for finding in wrong:
        console.print(
            Text(f"{finding.state}: ", style=_STYLES[finding.state]).append(
                Text(f"{printable(finding.name)}: {printable(finding.remedy)}", style="default")
            )
        )
    errors = sum(finding.state == "error" for finding in wrong)
    if errors:
        console.print(Text(f"{errors} to mend before Penchant is used.", style="bold red"))
    else:
        console.print(Text("Penchant can be used here.", style="bold"))
