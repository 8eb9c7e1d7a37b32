"""trackio: its database on this machine; another one only where the user's own environment names it.

On this machine a record goes into the database itself, in one transaction and under an id made of run, part and
step, so that it stands there once however often it is sent. `trackio.init` is not called: it would ask the Hub who
the user is, start a thread, and watch the processor.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import trackio  # pyright: ignore[reportMissingImports]
from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

from penchant.workflow.tracking.ledger import Ledger
from penchant.workflow.tracking.records import Record
from penchant.workflow.tracking.subject import Subject
from penchant.workflow.tracking.tracker import PROJECT, Tracker


class _Database:
    """A run in trackio's database on this machine."""

    def __init__(self, subject: Subject, ledger: Ledger, project: str) -> None:
        self._project, self._name, self._id = project, ledger.name, ledger.id
        made = datetime.now(UTC).isoformat()
        own = {"_Username": None, "_Created": made, "_Group": subject.group}  # what trackio itself adds
        self._config: dict[str, Any] | None = None if ledger.sent else {**subject.flat_config(), **own}

    @property
    def look(self) -> str:
        return f"See: trackio show --project {self._project}"

    def log(self, records: Sequence[Record]) -> None:
        self._add(
            [record.figures for record in records],
            [record.step for record in records],
            [f"{self._id}-{record.part}-{record.step}" for record in records],
        )

    def end(self, figures: Mapping[str, float], step: int) -> None:
        told = json.dumps(figures, sort_keys=True).encode()
        self._add([dict(figures)], [step], [f"{self._id}-final-{zlib.crc32(told):08x}"])

    def _add(self, figures: list[dict[str, float]], steps: list[int], ids: list[str]) -> None:
        SQLiteStorage.bulk_log(
            project=self._project,
            run=self._name,
            run_id=self._id,
            metrics_list=figures,
            steps=steps,
            log_ids=ids,
            config=self._config,
        )
        self._config = None

    def close(self) -> None:
        """Every transaction is on the disk when it ends."""


class _Remote:
    """A run in a Space or on a server of trackio, through its own client."""

    def __init__(self, subject: Subject, ledger: Ledger, project: str) -> None:
        self._run = trackio.init(
            project=project,
            name=ledger.name,
            group=subject.group,
            config=subject.flat_config(),
            resume="allow",
            private=True,  # a Space that trackio makes would be public otherwise
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    @property
    def look(self) -> str:
        space = os.environ.get("TRACKIO_SPACE_ID")
        return f"In the Space {space}" if space else "On the server of TRACKIO_SERVER_URL"

    def log(self, records: Sequence[Record]) -> None:
        for record in records:
            self._run.log(record.figures, step=record.step)

    def end(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


def open_run(subject: Subject, ledger: Ledger) -> Tracker:
    """See `penchant.workflow.tracking.tracker.Opener`."""
    project = os.environ.get("TRACKIO_PROJECT") or PROJECT
    if os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"):
        ledger.name = ledger.name or f"{subject.name}-{ledger.id}"  # trackio's client knows a run by its name
        return _Remote(subject, ledger, project)
    if not ledger.name:
        taken = {record["name"] for record in _runs(project)}
        ledger.name = subject.name if subject.name not in taken else f"{subject.name}-{ledger.id}"
    if ledger.id not in {record["id"] for record in _runs(project)}:
        ledger.forget()  # someone deleted it there, or it is another user's database
    return _Database(subject, ledger, project)


def _runs(project: str) -> list[dict[str, Any]]:
    if not SQLiteStorage.get_project_db_path(project).exists():
        return []
    return SQLiteStorage.get_run_records(project)
