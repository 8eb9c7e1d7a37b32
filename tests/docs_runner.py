"""Runs a page's commands, one after the other, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.arenas import vote_through
from tests.docs_commands import ROOT, Command
from tests.docs_world import COPIES, PLACE, WORDS
from tests.warm import Done, Warm

from penchant.evaluation.arena.ballots import FORMAT, code_of, new_ballot
from penchant.evaluation.arena.vote_store import open_arena

INTERRUPTED = 128 + signal.SIGINT
_ADDRESS = "http://127.0.0.1"
_SECONDS = 120


class Page:
    """The folder in which the commands of one page run.

    Args:
        warm: Starts commands.
        world: See `docs_world.make_world`; it is copied.
        made: Returns where the things of `docs_world.COPIES` are.
        folder: Where the commands work; it does not exist yet.
    """

    def __init__(self, warm: Warm, world: Path, made: Callable[[], Path], folder: Path) -> None:
        self._warm, self._made, self.folder = warm, made, folder
        shutil.copytree(world, folder, symlinks=True)
        os.environ[PLACE] = str(world)

    def run(self, command: Command) -> str:
        """Run a command to its end and return what it printed; one that serves a page is interrupted once it does.

        Raises:
            AssertionError: It did not end as it should.
        """
        words = meant(command)
        self._provide(words)
        done = self._script(words) if words[0] == "python" else self._penchant(words)
        expected = (0, INTERRUPTED) if _serves(words) else (0,)
        assert done.code in expected, (
            f"{command.page}: {command.text}\nended with {done.code}\n{done.out}{done.err}"
        )
        assert "Traceback" not in done.err, done.err
        if command.into:
            (self.folder / command.into).write_text(done.out, encoding="utf-8")
        return done.out

    def python(self, program: str) -> Done:
        """Run a page's Python, with as many threads as the tests have."""
        return self._script(["python", "-c", program])

    def _penchant(self, words: list[str]) -> Done:
        pid = self._warm.start(*words[1:], cwd=self.folder, before="tests.docs_world:enter")
        if _serves(words):
            self._interrupt(pid)
        done = self._warm.wait(pid)
        if _serves(words) and words[1] == "arena":
            self._vote()
        return done

    def _script(self, words: list[str]) -> Done:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
        run = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(run.returncode, run.stdout, run.stderr)

    def _provide(self, words: list[str]) -> None:
        """Put there what a command takes for granted, and clear away what an earlier one left in its `--out`."""
        out = self.folder / words[words.index("--out") + 1] if "--out" in words else None
        if out is not None and "--resume" not in words and _is_finished(out):
            shutil.rmtree(out) if out.is_dir() else out.unlink()
        for word in words:
            place = self.folder / word
            if word in COPIES and place != out and not place.exists():
                own = self.folder / COPIES[word]
                _copy(own if own.exists() else self._made() / COPIES[word], place)
            elif word == "runs" and not (place / "demo").exists():
                _copy(self._made() / COPIES["runs/demo"], place / "demo")
            elif re.fullmatch(r"votes-\w+\.json", word):
                self._colleague_votes(place)

    def _interrupt(self, pid: int) -> None:
        until = time.monotonic() + _SECONDS
        while _ADDRESS not in (said := self._warm.printed()) and "penchant: " not in said:
            assert time.monotonic() < until, f"it said no address: {said}"
            time.sleep(0.05)
        os.kill(pid, signal.SIGINT)

    def _vote(self) -> None:
        """Vote as people would, who were shown what an arena serves."""
        for path in self.folder.rglob("*.sqlite"):
            with open_arena(path) as arena:
                for rater in ("ann", "eve"):
                    vote_through(arena, rater, lambda entry, swapped: "right" if swapped else "left")

    def _colleague_votes(self, file: Path) -> None:
        """What a page that was sent out saves in a colleague's browser."""
        with open_arena(self.folder / "arena.sqlite") as arena:
            ballot = new_ballot(arena)
            code = code_of(arena.contest, ballot, 0, "left")
        votes = [{"pair": 0, "choice": "left", "code": code}]
        data = {"format": FORMAT, "ballot": ballot, "rater": file.stem, "votes": votes}
        file.write_text(json.dumps(data), encoding="utf-8")


def meant(command: Command) -> list[str]:
    """Return what is run: "penchant" or "python", and its arguments; of `make` the line in the Makefile."""
    words = [WORDS.get(word, word) for word in command.words]
    if words[0] == "make":
        recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition(f"\n{words[1]}: ")[2].splitlines()[1]
        words = recipe.strip().removeprefix("@").replace("$(BIN)/", "").split()
    words[0] = Path(words[0]).name
    if words[:3] == ["python", "-m", "penchant"]:
        words = words[2:]
    assert words[0] in ("penchant", "python"), command.text
    return words


def _serves(words: list[str]) -> bool:
    if words[1] == "arena":
        return words[2] not in ("status", "export", "read") and "--page" not in words
    return words[1] == "ui"


def _is_finished(out: Path) -> bool:
    return out.is_file() or any((out / name).exists() for name in ("model", "card.json", "eval", "1-sft"))


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, place)
    else:
        shutil.copy(source, place)
