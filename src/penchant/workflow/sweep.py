"""`penchant sweep`: a run for every combination of a grid's values, what they share computed once, and a winner.

    SWEEP/sweep.json   what was asked, and what every run came to; replaced as a whole after each run
          sweep.html   the same for people
          data/        what is trained on, chosen on and reported on (`penchant.workflow.sweep_data`)
          1-beta-0.05/ a run directory like any other; its eval/sweep.json holds its figures pair by pair

Every run is what `penchant train` makes of the same configuration and SWEEP/data: it starts from the start
weights, read anew, and shares with the others what is the same for them and found by content: tokens, the
reference's log-probabilities, outputs of the frozen layers. The winner is chosen on the validation pairs, and the
winner alone is looked at on the test pairs, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.data.atomic import tidy, write_json
from penchant.errors import DataError, DiskError, PenchantError, Stopped, UsageError
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device
from penchant.reporting.report import write_report
from penchant.reporting.sweep_page import write_sweep_page
from penchant.training.telemetry import reset_peak_memory
from penchant.workflow.reporter import Reporter
from penchant.workflow.run_directory import FACTS, finished
from penchant.workflow.run_lock import run_lock
from penchant.workflow.status import describe_error
from penchant.workflow.stopping import Stopper
from penchant.workflow.sweep_data import splits_digest, write_splits
from penchant.workflow.sweep_grid import DATA_FOLDER, VALIDATION, Point
from penchant.workflow.sweep_judge import SweepJudge
from penchant.workflow.sweep_result import figures_on_test, sweep_figures
from penchant.workflow.token_memory import TokenMemory
from penchant.workflow.train import train_run

SWEEP_FILE = "sweep.json"
JUDGED, TESTED = Path("eval", "sweep.json"), Path("eval", "sweep-test.json")


@dataclass(frozen=True)
class Sweep:
    """What is asked for.

    Attributes:
        points: The runs, from `penchant.workflow.sweep_grid.sweep_points`.
        data: Pairs: a file, or a folder with a `train` split.
        out: The sweep's folder.
        test: Pairs to report on; see `penchant.workflow.sweep_data.write_splits`.
        limit: Only the first rows of the training data.
        validation_fraction: Share of the training prompts that are held back to choose on, in (0, 1).
        prompts: Validation prompts that every policy answers, at most.
        answer_tokens: Longest of these answers.
    """

    points: Sequence[Point]
    data: Path
    out: Path
    test: Path | None = None
    limit: int | None = None
    validation_fraction: float = 0.1
    prompts: int = 32
    answer_tokens: int = 48

    def facts(self) -> dict[str, Any]:
        """Return what a resumed sweep must find unchanged, as plain data."""
        facts = {
            "data": str(self.data.resolve()),
            "test": None if self.test is None else str(self.test.resolve()),
            "limit": self.limit,
            "validation_fraction": self.validation_fraction,
            "prompts": self.prompts,
            "answer_tokens": self.answer_tokens,
            "points": [
                {"name": point.name, "folder": point.folder, "config": point.config.resolved()}
                for point in self.points
            ],
        }
        return json.loads(json.dumps(facts))


def sweep_run(
    sweep: Sweep,
    *,
    resume: bool = False,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> dict[str, Any]:
    """Train and judge every run that is not done yet, choose a winner, and return what `sweep.json` says.

    A run that fails is recorded and the others go on; what would end every run (a full disk, a signal) ends the
    sweep.

    Args:
        sweep: What is asked for.
        resume: Keep what is finished, and go on with what was interrupted or failed.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        UsageError: There is a sweep already that is not to be resumed, or one of something else.
        PenchantError: See `penchant.errors`.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    with run_lock(sweep.out, reporter.note):
        tidy(sweep.out)
        _claim(sweep, resume=resume)
        _prepare(sweep, reporter)
        return _Work(sweep, reporter, stopper).done()


def _claim(sweep: Sweep, *, resume: bool) -> None:
    before = _read(sweep.out / SWEEP_FILE)
    if before is None:
        write_json(sweep.out / SWEEP_FILE, {"asked": sweep.facts()})
        return
    if not resume:
        raise UsageError(
            "there is a sweep here already", where=str(sweep.out), fix="Give --resume, or choose another --out."
        )
    changed = list(_changes("", before.get("asked", {}), sweep.facts()))
    if changed:
        raise UsageError(
            f"this sweep was begun with something else: {', '.join(changed[:5])}",
            where=str(sweep.out),
            fix="Go on with what it was begun with, or choose another --out.",
        )


def _changes(place: str, before: Any, now: Any) -> list[str]:
    """Where two plain values differ, by their keys."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [line for key in keys for line in _changes(f"{place}.{key}", before.get(key), now.get(key))]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        numbered = enumerate(zip(before, now, strict=True), start=1)
        return [line for number, pair in numbered for line in _changes(f"{place} {number}", *pair)]
    return [] if before == now else [place.removeprefix(".")]


def _on_the_sets(config: Config) -> Config:
    """A run's configuration without the list of rows left out by hand: the sweep's sets were made without them."""
    return config.model_copy(update={"data": config.data.model_copy(update={"exclude": None})})


def _prepare(sweep: Sweep, reporter: Reporter) -> None:
    """Split the data, or check that it is as it was split."""
    folder, state = sweep.out / DATA_FOLDER, _read(sweep.out / SWEEP_FILE) or {}
    if not folder.is_dir():
        write_splits(
            sweep.data,
            sweep.test,
            folder,
            fraction=sweep.validation_fraction,
            limit=sweep.limit,
            exclude=sweep.points[0].config.data.exclude,
            note=reporter.note,
        )
    digest = splits_digest(folder)
    if state.get("data_sha256", digest) != digest:
        raise DataError("the sets of pairs are not those that the sweep began with", where=str(folder))
    write_json(sweep.out / SWEEP_FILE, {**state, "data_sha256": digest})


class _Work:
    """The runs of a sweep in a folder that is this process's alone."""

    def __init__(self, sweep: Sweep, reporter: Reporter, stopper: Stopper) -> None:
        self._sweep, self._reporter, self._stopper = sweep, reporter, stopper
        self._memory = TokenMemory()
        self._state = _read(sweep.out / SWEEP_FILE) or {}
        self._failures: dict[str, dict[str, Any]] = {}
        self._judge = SweepJudge(
            sweep.points[0].config,
            sweep.out / DATA_FOLDER,
            self._memory,
            prompts=sweep.prompts,
            answer_tokens=sweep.answer_tokens,
            reporter=reporter,
            stopper=stopper,
        )

    def done(self) -> dict[str, Any]:
        """Do every run, then look at the winner's test pairs."""
        for number, point in enumerate(self._sweep.points, start=1):
            self._stopper.check()
            where = f"Run {number} of {len(self._sweep.points)}, {point.name}"
            try:
                self._one(point, where)
            except (Stopped, DiskError):
                raise
            except PenchantError as error:
                reason, code = describe_error(error)
                self._failures[point.folder] = {"reason": reason, "exit_code": code}
                self._reporter.warn(f"{where} failed: {reason}")
            release_memory()
            self._write()
        found = self._write()
        if found["winner"] is None:
            return found
        run = self._sweep.out / found["winner"]["folder"]
        if _read(run / TESTED) is None:
            write_json(run / TESTED, self._judge.judge(run, "test"))
        return self._write()

    def _one(self, point: Point, where: str) -> None:
        run = self._sweep.out / point.folder
        if not finished(run):
            self._reporter.note(where)
            (run / JUDGED).unlink(missing_ok=True)
            reset_peak_memory(choose_device(point.config.engine.device))  # each run's own, not the runs' before it
            train_run(
                _on_the_sets(point.config),
                self._sweep.out / DATA_FOLDER,
                run,
                resume=True,  # of what was not begun there is nothing to go on with
                memory=self._memory,
                reporter=self._reporter,
                stopper=self._stopper,
            )
            release_memory()
        if _read(run / JUDGED) is None:
            write_json(run / JUDGED, self._judge.judge(run, VALIDATION))
            write_report(run)
        else:
            self._reporter.note(f"{where}: finished before")

    def _write(self) -> dict[str, Any]:
        """Write what is known so far, and return it."""
        runs = [self._known(point) for point in self._sweep.points]
        found = {**self._state, **sweep_figures(runs)}
        winner = found["winner"]
        tested = _read(self._sweep.out / winner["folder"] / TESTED) if winner else None
        if winner and tested:
            found["winner"] = {**winner, "test": figures_on_test(tested)}
        write_json(self._sweep.out / SWEEP_FILE, found)
        write_sweep_page(found, self._sweep.out / "sweep.html")
        return found

    def _known(self, point: Point) -> dict[str, Any]:
        run = self._sweep.out / point.folder
        facts = {"name": point.name, "folder": point.folder, "settings": point.settings}
        judged, trained = _read(run / JUDGED), _read(run / FACTS)
        if judged is not None and trained is not None and finished(run):
            return {**facts, "state": "finished", "judged": judged, "trained": trained}
        failure = self._failures.get(point.folder)
        return {**facts, "state": "failed", **failure} if failure else {**facts, "state": "pending"}


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None when there is none.

    Raises:
        DataError: What is there is none; files are written whole, so nobody left half of it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}", where=str(path)) from error
    if not isinstance(found, Mapping):
        raise DataError("this is no JSON object", where=str(path))
    return dict(found)
