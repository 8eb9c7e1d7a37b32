"""W&B: online where there is a key and the Hub may be reached, else a folder for `wandb sync`.

Offline, W&B cannot go on with a run: of several folders of one run the last one sent replaces the others. So each
time the whole run is written to a new folder, and the older ones go when it is complete.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb  # pyright: ignore[reportMissingImports]

from penchant.workflow.tracking.ledger import FOLDER, Ledger
from penchant.workflow.tracking.records import Record
from penchant.workflow.tracking.subject import Subject
from penchant.workflow.tracking.tracker import PROJECT

_STEP = "train/global_step"
# no look at the machine, the git repository, the program, the user; nothing of what the process prints
_SETTINGS = {
    "silent": True,
    "console": "off",
    "host": "",  # else the name of the machine
    "disable_git": True,
    "disable_code": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class _Run:
    """A run of W&B."""

    def __init__(self, subject: Subject, ledger: Ledger) -> None:
        self._offline = os.environ.get("WANDB_MODE") == "offline"
        folder = subject.run / FOLDER
        self._older = sorted((folder / "wandb").glob(f"offline-run-*-{ledger.id}")) if self._offline else []
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=ledger.name,
            group=subject.group,
            id=ledger.id,
            resume=None if self._offline else "allow",
            dir=str(folder),
            config=subject.config,
            settings=wandb.Settings(**_SETTINGS),
        )
        if self._offline:
            ledger.forget()
        else:  # what the server holds counts
            ledger.sent = dict.fromkeys(("train", "eval", "generations"), self._run.starting_step - 1)
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP, step_sync=True)

    @property
    def look(self) -> str:
        if not self._offline:
            return f"See: {self._run.url}"
        return f"Offline; to send it to W&B: wandb sync {shlex.quote(str(self._folder))}"

    @property
    def _folder(self) -> Path:
        return Path(self._run.dir).parent

    def log(self, records: Sequence[Record]) -> None:
        for record in records:
            self._run.log(record.figures, step=record.step)

    def end(self, figures: Mapping[str, float], step: int) -> None:
        self._run.summary.update(dict(figures))

    def close(self) -> None:
        self._run.finish()
        for folder in self._older:
            if folder != self._folder:
                shutil.rmtree(folder, ignore_errors=True)


def open_run(subject: Subject, ledger: Ledger) -> _Run:
    """See `penchant.workflow.tracking.tracker.Opener`."""
    ledger.name = ledger.name or subject.name
    return _Run(subject, ledger)
