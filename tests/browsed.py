"""Rows for the tests of the data browser: ordinary ones, hostile ones, and rows that are no pairs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

HOSTILE = (
    '<img src=x onerror="document.title=1"><script>document.title=2</script><style>main{display:none}</style>'
    '<a href="javascript:document.title=3">x</a>\' " `{{ 7*7 }} {% raw %} \u202e\u200b\u0007\u2028 </p></textarea>'
    "<iframe src=http://example.com/></iframe><base href=http://example.com/>"
)
WORDS = "apple pear straße café naïve 東京 can't under_score 3.5 OR AND NOT NEAR apples Plum".split()


def rows_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with a prompt, two responses, and an id each; every fifth has a source of its own."""
    chance = random.Random(seed)

    def text(least: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randrange(least, 12))) + chance.choice(["", ".", "!\n"])

    return [
        {
            "id": f"row {number}",
            "prompt": text(1) + f" {number}",
            "chosen": "yes " + text(2),
            "rejected": "no " + text(1),
            **({"source": "elsewhere"} if number % 5 == 0 else {}),
        }
        for number in range(count)
    ]


def hostile_rows() -> list[Any]:
    """A row whose every field is hostile, rows that make no pair, and one that is no row."""
    message = {"role": "user", "content": HOSTILE}
    lead = [message, {"role": "assistant", "content": HOSTILE + "1"}, {"role": "user", "content": HOSTILE}]
    return [
        {
            "id": HOSTILE,
            "prompt": [{"role": "system", "content": HOSTILE}, *lead],
            "chosen": f"{HOSTILE} yes",
            "rejected": f"no {HOSTILE}",
            "source": HOSTILE,
            "cluster": HOSTILE,
            "margin": 2.5,
        },
        {"id": f"same {HOSTILE}", "prompt": HOSTILE, "chosen": HOSTILE, "rejected": HOSTILE, HOSTILE: HOSTILE},
        {"id": "half \ud800 pair", "prompt": "half \ud800", "chosen": "a\u0000b \udfff", "rejected": "c"},
        {"id": "no prompt", "prompt": "", "chosen": "x", "rejected": "y"},
    ]


def write_rows(path: Path, rows: list[Any], *, broken: bool = False) -> Path:
    """Write rows as JSON lines, with a line behind them that is none if it is to be `broken`."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + ("{broken\n" if broken else ""), encoding="utf-8")
    return path
