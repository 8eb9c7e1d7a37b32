"""Rows that a person left out by hand: a list to review, beside the data and never in it.

    {"id": "train-17", "texts": "9f0c...", "place": "pairs.jsonl:17", "reason": "the answer is wrong"}

One line a row. `id` says which row is meant; `texts`, where it is there, that it still says what the person read.
The file may be written by hand: an id alone is enough.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from penchant.data.atomic import disk_errors, write_text
from penchant.data.ledger import DropReason, Ledger
from penchant.errors import DataError
from penchant.types import LedgerEntry, PreferencePair

_KEYS = ("id", "texts", "place", "reason")
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Exclusion:
    """A row that is to be left out.

    Attributes:
        id: Of the row.
        texts: See `said_digest`; "" when the list does not say.
        place: Where the row stood when it was read, for people.
        reason: Why, in the person's words.
    """

    id: str
    texts: str = ""
    place: str = ""
    reason: str = ""


def said_digest(pair: PreferencePair) -> str:
    """Return 32 hexadecimal digits of a pair's prompt and chosen side, whether or not it has a rejected one."""
    digest = hashlib.blake2b(digest_size=16)
    turns = [(turn.role, turn.content, turn.tool_calls) for turn in (*pair.prompt, *pair.chosen_lead)]
    for text in (part for turn in (*turns, ("assistant", pair.chosen, "")) for part in turn):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def read_exclusions(path: Path) -> dict[str, Exclusion]:
    """Return the rows of a list by their ids; later lines win.

    Raises:
        DataError: It cannot be read, or a line is not what the list holds; the line is named.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError("this is too long for a list of rows left out", where=path.as_posix())
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(f"the list of rows left out cannot be read: {reason}", where=path.as_posix()) from error
    found = (
        _exclusion(line, f"{path.as_posix()}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    )
    return {one.id: one for one in found}


def write_exclusions(path: Path, exclusions: Sequence[Exclusion]) -> None:
    """Write a list; a reader sees the old one or the whole new one.

    Raises:
        DiskError: There is no room or no permission.
    """
    lines = [json.dumps({key: text for key, text in asdict(one).items() if text}) + "\n" for one in exclusions]
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(lines))


def leave_out(
    pairs: Sequence[PreferencePair], ledger: Ledger, path: Path, *, every: bool = False
) -> list[PreferencePair]:
    """Return the pairs that the list does not name; the ledger says of the others that they were left out by hand.

    Args:
        pairs: In any order.
        ledger: Of their rows; it is revised.
        path: The list.
        every: The pairs are the whole data, so a list that names none of them is a mistake.

    Raises:
        DataError: The list cannot be read, names no row of the data, all of them, or one that says something else
            by now.
    """
    listed = read_exclusions(path)
    kept: list[PreferencePair] = []
    for pair in pairs:
        if (entry := excluded_entry(pair, listed, path)) is None:
            kept.append(pair)
        else:
            ledger.revise(entry)
    if every and listed and len(kept) == len(pairs):
        raise DataError(
            f"none of the {len(listed)} rows that it names is in this data",
            where=path.as_posix(),
            fix="Leave data.exclude out, or name the list that was made of this data.",
        )
    if pairs and not kept:
        raise DataError(f"it leaves out all of the {len(pairs)} pairs", where=path.as_posix())
    return kept


def excluded_entry(pair: PreferencePair, listed: dict[str, Exclusion], path: Path) -> LedgerEntry | None:
    """Return the ledger's entry of a pair that is left out, None for one that stays.

    Raises:
        DataError: A row of that id is listed, and says something else by now.
    """
    exclusion = listed.get(pair.id)
    if exclusion is None:
        return None
    if exclusion.texts and exclusion.texts != said_digest(pair):
        raise DataError(
            f"the row {json.dumps(pair.id)} is not the text that was left out",
            where=path.as_posix(),
            fix="The data has changed since, or is other data. Look at the row again, or remove its line.",
        )
    reason = DropReason.EXCLUDED_BY_HAND.value
    return LedgerEntry(pair.source, pair.line, pair.id, "dropped", reason, exclusion.reason)


def with_row(listed: dict[str, Exclusion], one: Exclusion) -> list[Exclusion]:
    """Return the list with one more row, or with another reason for a row that it has."""
    return list({**listed, one.id: replace(one, reason=" ".join(one.reason.split()))}.values())


def _exclusion(line: str, where: str) -> Exclusion:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("this is no line of JSON", where=where) from error
    if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
        raise DataError("a row left out is an object of texts", where=where)
    if unknown := sorted(set(values) - set(_KEYS)):
        raise DataError(f"{json.dumps(unknown[0])} says nothing of a row; known: {', '.join(_KEYS)}", where=where)
    if not values.get("id"):
        raise DataError("there is no id, which says what row is meant", where=where)
    return Exclusion(**values)
