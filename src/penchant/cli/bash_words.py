"""Bash takes a word apart at `=` and `:` before it asks what completes it: here it is put together again.

Of `--set objective.loss=d` bash hands over `objective.loss`, `=` and `d`, and replaces the last alone with what it
is given. So the pieces are joined for the completers, and of their answers only what follows the last of these
signs is handed back.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, MutableMapping

_BREAKS = "=:"
_REQUEST = "_PENCHANT_COMPLETE"


def complete_as_bash_does(run: Callable[[], None], environment: MutableMapping[str, str] = os.environ) -> None:
    """Run the application; where bash asks it for completions, with whole words, and answer with their ends."""
    if environment.get(_REQUEST) != "complete_bash" or "COMP_WORDS" not in environment:
        run()
        return
    words, place = joined(environment["COMP_WORDS"].split("\n"), int(environment.get("COMP_CWORD", "0")))
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(words), str(place)
    done = _after_break(words[place] if place < len(words) else "")
    answer = io.StringIO()
    try:
        with contextlib.redirect_stdout(answer):
            run()
    finally:
        for line in answer.getvalue().splitlines():
            sys.stdout.write(line[done:] + "\n")


def joined(words: list[str], place: int) -> tuple[list[str], int]:
    """Return the words as they were typed, and which of them the cursor is in.

    Args:
        words: As bash broke them.
        place: Which of these the cursor is in.
    """
    found: list[str] = []
    goes_on, where = False, len(words)
    for index, word in enumerate(words):
        broken = word != "" and not word.strip(_BREAKS)
        if found and (broken or (goes_on and word)):
            found[-1] += word
        else:
            found.append(word)
        goes_on = broken
        if index == place:
            where = len(found) - 1
    return found, where


def _after_break(word: str) -> int:
    """How much of a word bash keeps: up to its last `=` or `:`."""
    return 1 + max(word.rfind(sign) for sign in _BREAKS)
