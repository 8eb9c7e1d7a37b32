"""Where arenas lie, and which runs could have one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import UsageError
from penchant.evaluation.arena.answers import read_entries
from penchant.evaluation.arena.contest import REPEATS, Contest
from penchant.evaluation.arena.vote_file import is_arena
from penchant.evaluation.arena.vote_store import create_arena

ARENA_FILE = "arena.sqlite"
SAMPLES = Path("samples") / "test.jsonl"
_DEEPEST = 2  # folders below the folder of runs: of stages, and of rounds


def contest_of_run(run: Path, *, limit: int | None = None, repeats: float = REPEATS) -> Contest:
    """Return the contest between a run's policy and its reference, by the answers that the run ended with.

    Args:
        run: The run directory, with `samples/test.jsonl`.
        limit: Only the first prompts.
        repeats: Share of the prompts that come again.

    Raises:
        DataError: The answers cannot be used.
    """
    entries, _ = read_entries([run / SAMPLES], limit=limit)
    origin = {"models": [str(run.resolve())], "answers": [], "limit": limit}
    return Contest((run.resolve().name, "its reference"), entries, repeats, origin=origin)


@dataclass(frozen=True)
class Place:
    """An arena, or a run that could have one.

    Attributes:
        key: Stands for it in addresses; says nothing of it.
        name: Where it lies, for people.
        path: The arena's file.
    """

    key: str
    name: str
    path: Path


@dataclass(frozen=True)
class Found:
    """What there is: arenas, and runs with answers to vote on but no arena yet."""

    arenas: list[Place]
    runs: list[Place]


class Shelf:
    """The arenas of a folder of runs, or a single one.

    Args:
        place: The folder, or the arena's file.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.single = place.is_file()

    def look(self) -> Found:
        """Return what is there now."""
        if self.single:
            return Found([self._found(self._place, self._place.parent)], [])
        folders = [self._place]
        for depth in range(1, _DEEPEST + 1):
            folders += sorted(folder for folder in self._place.glob("/".join("*" * depth)) if folder.is_dir())
        arenas = [
            self._found(file, self._place)
            for folder in folders
            for file in sorted(folder.glob("*.sqlite"))
            if is_arena(file)
        ]
        known = {arena.path for arena in arenas}
        runs = [
            self._found(folder / ARENA_FILE, self._place)
            for folder in folders
            if (folder / SAMPLES).is_file() and not (folder / ARENA_FILE).exists()
        ]
        return Found(arenas, [run for run in runs if run.path not in known])

    def path_of(self, key: str) -> Path | None:
        """Return the file of an arena by its key; None where there is none."""
        return next((arena.path for arena in self.look().arenas if arena.key == key), None)

    def begin(self, key: str) -> str:
        """Make the arena of a run from the answers that it ended with, and return its key.

        Raises:
            UsageError: No such run waits for an arena.
            DataError: Its answers cannot be used.
            DiskError: The arena cannot be written.
        """
        found = self.look()
        if any(arena.key == key for arena in found.arenas):
            return key  # a double click
        run = next((run for run in found.runs if run.key == key), None)
        if run is None:
            raise UsageError("there is no such run", fix="Reload the page that lists them.")
        create_arena(run.path, contest_of_run(run.path.parent))
        return key

    def _found(self, path: Path, below: Path) -> Place:
        relative = path.relative_to(below)
        shown = (
            str(relative.parent) if relative.name == ARENA_FILE and relative.parent != Path() else str(relative)
        )
        return Place(hashlib.sha256(str(relative).encode()).hexdigest()[:12], shown, path)
