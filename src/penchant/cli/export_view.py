"""What `penchant export` prints: the checks, what rounding cost, the files, and how to open them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penchant.cli.console import printable


def export_text(found: Mapping[str, Any]) -> str:
    """Return the checks and the files of an export as text."""
    proof = found["proof"]
    lines = [f"Opened by {proof['opened_by']}, compared on {proof['compared_on']}:", *_findings(proof)]
    for further in proof.get("also", ()):
        lines += ["", f"Opened by {further['opened_by']} on the same texts:", *_findings(further)]
    lines += [f"  Note: {note}" for note in found["notes"]]
    lines += ["", "Files:", *(f"  {size / 1e6:10.1f} MB  {name}" for name, size in found["files"].items())]
    return printable("\n".join(lines))


def _findings(proof: Mapping[str, Any]) -> list[str]:
    apart = proof["differences"]
    return [
        *(
            f"  {'ok' if check['passed'] else 'NO':3} {check['name']:18} {check['detail']}"
            for check in proof["checks"]
        ),
        f"  Over {apart['tokens']} tokens of {apart['responses']} responses: mean difference {apart['mean']:.3g} "
        f"nats, mean KL {apart['kl']:.3g} nats; greedy tokens equal {apart['greedy_equal']} of {apart['tokens']}",
    ]


def next_lines(found: Mapping[str, Any]) -> list[str]:
    """Return where the export is, where it was sent, and how to open it."""
    lines = [f"Export   {found['out']}"]
    if push := found["push"]:
        kind = "public" if push["public"] else "private"
        told = push["address"] or f"would be sent to {push['repository']}, {kind}: {', '.join(push['files'])}"
        lines.append(f"Hub      {told}")
    return [printable(line) for line in [*lines, f"Next     {_open_command(found)}"]]


def _open_command(found: Mapping[str, Any]) -> str:
    out = Path(found["out"])
    file = next((name for name in found["files"] if name.endswith(".gguf")), "")
    if found["form"] == "ollama":
        name = Path(file).stem.lower()
        return f"cd {shlex.quote(str(out))} && ollama create {name} -f Modelfile && ollama run {name}"
    if found["form"] == "gguf":
        return f"llama-cli -m {shlex.quote(str(out / file))}"
    return f"penchant chat {shlex.quote(str(out))}"
