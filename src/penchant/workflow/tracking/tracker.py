"""What every tracker can do, and how each is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol

from penchant.workflow.tracking.ledger import Ledger
from penchant.workflow.tracking.records import Record
from penchant.workflow.tracking.subject import Subject

PROJECT = "penchant"


class Tracker(Protocol):
    """A run in a tracker, open for more.

    Whatever goes wrong in a tracker is raised as it comes: who sends says that, and ends.
    """

    @property
    def look(self) -> str:
        """A sentence with the command or address that shows the run."""
        ...

    def log(self, records: Sequence[Record]) -> None:
        """Take records in the order of their steps."""
        ...

    def end(self, figures: Mapping[str, float], step: int) -> None:
        """Take figures of the run's end; `step` is its last."""
        ...

    def close(self) -> None:
        """Bring to the disk, or to the server, what was taken."""
        ...


class Opener(Protocol):
    """How a tracker is opened."""

    def __call__(self, subject: Subject, ledger: Ledger) -> Tracker:
        """Open a run for what its ledger says is not there yet; the ledger may be told that nothing is."""
        ...


_PLACES = {
    "tensorboard": "to_tensorboard",
    "trackio": "to_trackio",
    "wandb": "to_wandb",
}
REPLACES = frozenset({"tensorboard", "wandb"})  # steps that a resume takes again take the place of the old ones


def opener(name: str) -> Opener:
    """Return how the tracker of a name is opened; its package is imported here and nowhere before."""
    return import_module(f"penchant.workflow.tracking.{_PLACES[name]}").open_run
