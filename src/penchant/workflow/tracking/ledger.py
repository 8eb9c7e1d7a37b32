"""`tracking/TRACKER.json` of a run: under which name and id a tracker holds it, and how much of it was sent."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from penchant.data.atomic import disk_errors, write_json
from penchant.errors import DataError
from penchant.workflow.tracking.records import Record

FOLDER = "tracking"
_ID = re.compile(r"[0-9a-f]{8}")
_NOTHING = -1  # before step 0


@dataclass
class Ledger:
    """What a tracker was sent of a run.

    Attributes:
        id: The run's, for this tracker; drawn once.
        name: What the run is called there; empty before it was first sent.
        sent: By part of the logs, the last step that was handed over.
        final: The figures of the run's end that were handed over.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(4))
    name: str = ""
    sent: dict[str, int] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)

    def new(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that were not sent yet."""
        return [record for record in records if record.step > self.sent.get(record.part, _NOTHING)]

    def new_final(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the final figures that were not sent yet, or with another value."""
        return {name: value for name, value in figures.items() if self.final.get(name) != value}

    def add(self, records: Sequence[Record]) -> None:
        """Note that records were handed over."""
        for record in records:
            self.sent[record.part] = max(record.step, self.sent.get(record.part, _NOTHING))

    def rewind(self, step: int) -> None:
        """Forget what was sent of later steps: a resume takes them again."""
        self.sent = {part: min(sent, step) for part, sent in self.sent.items()}

    def forget(self) -> None:
        """Forget all that was sent, but not where: it is to be sent anew."""
        self.sent, self.final = {}, {}


def ledger_file(run: Path, tracker: str) -> Path:
    """Return where the ledger of a tracker lies."""
    return run / FOLDER / f"{tracker}.json"


def read_ledger(run: Path, tracker: str) -> Ledger:
    """Return what a tracker was sent of a run; an empty ledger with a new id when it was sent nothing.

    Raises:
        DataError: The file is no ledger.
    """
    path = ledger_file(run, tracker)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from error
    ledger = Ledger(**found) if isinstance(found, dict) and found.keys() == asdict(Ledger()).keys() else None
    if ledger is None or not _is_sound(ledger):
        raise DataError("this says nothing about a tracker", where=str(path), fix="Remove it to send all anew.")
    return ledger


def _is_sound(ledger: Ledger) -> bool:
    """Whether it holds what a ledger holds: a folder's name is made of the id."""
    names = isinstance(ledger.id, str) and isinstance(ledger.name, str) and bool(_ID.fullmatch(ledger.id))
    return names and all(
        isinstance(values, dict) and all(isinstance(value, int | float) for value in values.values())
        for values in (ledger.sent, ledger.final)
    )


def write_ledger(run: Path, tracker: str, ledger: Ledger) -> None:
    """Write it, whole or not at all.

    Raises:
        DiskError: There is no room or no permission.
    """
    write_json(ledger_file(run, tracker), asdict(ledger))


@contextlib.contextmanager
def alone(run: Path, tracker: str) -> Iterator[bool]:
    """Yield whether this is the only process that sends a run to a tracker; it stays so until the end of the body.

    Raises:
        DiskError: There is no room or no permission for the file that says so.
    """
    path = run / FOLDER / f"{tracker}.lock"
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
