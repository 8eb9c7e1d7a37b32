"""TensorBoard: event files in `tracking/tensorboard` of the run, written without torch and TensorFlow.

A file that goes on after another begins with the mark of a restart, which makes TensorBoard drop what older files
hold of that step and later: so steps that a resume takes again stand there once.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tensorboard.compat.proto import event_pb2, summary_pb2  # pyright: ignore[reportMissingImports]
from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # pyright: ignore[reportMissingImports]
from tensorboard.plugins.text.summary_v2 import text_pb  # pyright: ignore[reportMissingImports]
from tensorboard.summary.writer.event_file_writer import EventFileWriter  # pyright: ignore[reportMissingImports]

from penchant.workflow.tracking.ledger import FOLDER, Ledger
from penchant.workflow.tracking.records import Record
from penchant.workflow.tracking.subject import Subject

_EVENTS: Any = event_pb2  # made at run time by protobuf: no checker of types sees what is in them
_SUMMARIES: Any = summary_pb2
_STEP = "train/global_step"  # every event has it anyway


class _EventFiles:
    """The event files of a run, with a new one for what comes."""

    def __init__(self, subject: Subject, ledger: Ledger) -> None:
        self._folder = subject.run / FOLDER / "tensorboard"
        goes_on = bool(ledger.sent)
        if not goes_on:  # of a run that the ledger does not know
            for old in self._folder.glob("events.out.tfevents.*"):
                old.unlink()
        self._writer = EventFileWriter(str(self._folder))
        if goes_on:
            mark = _EVENTS.SessionLog(status=_EVENTS.SessionLog.START)
            self._add(step=max(ledger.sent.values()) + 1, session_log=mark)
        else:
            self._tell(subject)
        self._writer.flush()

    @property
    def look(self) -> str:
        return f"See: tensorboard --logdir {shlex.quote(_shown(self._folder))}"

    def _tell(self, subject: Subject) -> None:
        text = yaml.safe_dump(subject.config, sort_keys=False, allow_unicode=True)
        self._add(step=0, summary=text_pb("config", "\n".join(f"    {line}" for line in text.splitlines())))
        values = {key: _plain(value) for key, value in subject.flat_config().items()}
        self._add(step=0, summary=hparams_pb(values, trial_id=subject.name))

    def log(self, records: Sequence[Record]) -> None:
        for record in records:
            self._scalars(record.figures, record.step)
        self._writer.flush()

    def end(self, figures: Mapping[str, float], step: int) -> None:
        self._scalars(figures, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _scalars(self, figures: Mapping[str, float], step: int) -> None:
        values = [
            _SUMMARIES.Summary.Value(tag=name, simple_value=value)
            for name, value in figures.items()
            if name != _STEP
        ]
        self._add(step=step, summary=_SUMMARIES.Summary(value=values))

    def _add(self, **parts: Any) -> None:
        self._writer.add_event(_EVENTS.Event(wall_time=time.time(), **parts))


def open_run(subject: Subject, ledger: Ledger) -> _EventFiles:
    """See `penchant.workflow.tracking.tracker.Opener`."""
    ledger.name = ledger.name or subject.name
    return _EventFiles(subject, ledger)


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _shown(folder: Path) -> str:
    """A path from where the command was typed, where it lies below."""
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)
