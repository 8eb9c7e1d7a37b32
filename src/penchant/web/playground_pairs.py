"""Which of two answers was better, kept as a preference pair: one line of JSON, ready for `penchant prepare`."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from penchant import __version__
from penchant.data.atomic import disk_errors
from penchant.errors import DataError, UsageError
from penchant.types import Turn
from penchant.web.playground_likelihood import SIDES, Side
from penchant.web.playground_talk import Exchange, Talk

ORIGIN = "penchant playground"


class PairFile:
    """Where preferences are kept, a line each; appended to, never rewritten.

    Args:
        path: The file; made when the first pair is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def keep(self, talk: Talk, exchange: Exchange, better: Side) -> None:
        """Write a pair and bring it to the disk; a second time the same is done already.

        Raises:
            UsageError: It was said otherwise before, or there is no choice between the answers.
            DataError: The file holds something else.
            DiskError: It cannot be written.
        """
        if why := cannot_keep(exchange):
            raise UsageError(f"this pair cannot be kept: {why}")
        with self._lock:
            if exchange.better is not None:
                if exchange.better != better:
                    raise UsageError(
                        f"it was kept already that the {exchange.better} answer was better",
                        where=str(self.path),
                        fix=f'Remove the line with the id "{row_id(talk, exchange)}" from the file.',
                    )
                return
            self._append(json.dumps(pair_row(talk, exchange, better), ensure_ascii=False) + "\n")
            exchange.better = better

    def _append(self, line: str) -> None:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                whole = self._whole(file)
                file.write((b"" if whole else b"\n") + line.encode())
                file.flush()
                os.fsync(file.fileno())

    def _whole(self, file: Any) -> bool:
        """Whether the file ends with its last line.

        Raises:
            DataError: It does not begin with a preference pair.
        """
        file.seek(0)
        if not (first := file.readline()):
            return True
        try:
            names = set(json.loads(first))
        except ValueError:
            names = set()
        if not {"chosen", "rejected"} <= names:
            raise DataError(
                "this file holds no preference pairs",
                where=str(self.path),
                fix="Start again with another file for kept pairs.",
            )
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def cannot_keep(exchange: Exchange) -> str:
    """Return why there is no preference between an exchange's answers; "" when there can be one."""
    if not exchange.over or set(exchange.answers) != set(SIDES):
        return "there are no two answers"
    left, right = (exchange.answers[side].text for side in SIDES)
    if left == right:
        return "both answers are the same"
    if not left or not right:
        return "an answer is empty"
    return ""


def row_id(talk: Talk, exchange: Exchange) -> str:
    """Return the id of an exchange's pair."""
    return f"playground-{talk.id}-{exchange.key}"


def pair_row(talk: Talk, exchange: Exchange, better: Side) -> dict[str, Any]:
    """Return an exchange as a row of preference data, with where it comes from.

    The prompt is what both sides share; where their answers to an earlier question differ, each side begins with
    its own. `blind` is false: whoever judged saw which model said what.
    """
    worse = SIDES[1 - SIDES.index(better)]
    conversations = {side: talk.turns(exchange, side) for side in SIDES}
    shared = _shared(conversations["left"], conversations["right"])

    def told(side: Side) -> list[dict[str, Any]]:
        turns = [*conversations[side][shared:], Turn("assistant", exchange.answers[side].text)]
        return [turn.as_message() for turn in turns]

    return {
        "id": row_id(talk, exchange),
        "prompt": [turn.as_message() for turn in conversations[better][:shared]],
        "chosen": told(better),
        "rejected": told(worse),
        "chosen_complete": exchange.answers[better].finished,
        "rejected_complete": exchange.answers[worse].finished,
        "source": ORIGIN,
        "blind": False,
        "better_side": better,
        "chosen_model": talk.voices[better].path,
        "rejected_model": talk.voices[worse].path,
        "sampling": {**asdict(exchange.sampling), "max_new_tokens": exchange.max_new_tokens},
        "kept_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "penchant": __version__,
    }


def _shared(one: Sequence[Turn], other: Sequence[Turn]) -> int:
    """How many turns both begin with."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=True)))
