"""`penchant verify-resume`: take a run's last steps once more, and demand the same bytes."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from penchant.config import Config, build_config
from penchant.data.files import near_folder
from penchant.errors import PenchantError, Stopped, UsageError
from penchant.strict_yaml import read_yaml
from penchant.training.checkpoint import checkpoint_damage, checkpoint_state, validation_state
from penchant.training.checkpoint_folder import sha256_of, steps_in
from penchant.training.identity import CHANGES
from penchant.workflow.reporter import Advance, Reporter
from penchant.workflow.resuming import moved, recorded
from penchant.workflow.run_directory import finished
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

_LOGS = ("metrics.jsonl", "pairs.jsonl", "validation.jsonl", "generations.jsonl")
_UNEQUAL_BY_NATURE = {"seconds", "peak_memory_bytes"}


@dataclass(frozen=True)
class Verified:
    """What was taken once more, and found equal.

    Attributes:
        run: The run directory.
        first_step: The first step that was taken again.
        last_step: The last one.
        compared: What was compared, in words.
    """

    run: Path
    first_step: int
    last_step: int
    compared: tuple[str, ...]


def verify_resume(
    run: Path, *, data: Path | None = None, reporter: Reporter | None = None, stopper: Stopper | None = None
) -> Verified:
    """Replay the last steps of a run in a temporary folder and compare every bit; the run is only read.

    It goes on from the last checkpoint but one, where there are two, so that the last one is compared too:
    weights, optimizer, generators. From a single one it goes on to the last step recorded.

    Args:
        run: A run directory with checkpoints.
        data: Its pairs, if they are not where they were.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        UsageError: There is nothing to replay, or the data is not known.
        PenchantError: Something is not equal; the first difference is named. Exit code 1.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    if not (run / "config.yaml").is_file():
        raise UsageError(f"this is no run directory.{near_folder(run, 'config.yaml')}", where=str(run))
    facts, config = recorded(run), _config_of(run)
    start, last = _span(run)
    _refuse_change_within(run, start)
    for line in moved(run, config.engine):
        reporter.warn(f"{line}: other bits are to be expected")
    given = data or (Path(facts["data"]) if facts.get("data") else None)
    if given is None:
        raise UsageError("the run does not say what it was trained on", where=str(run), fix="Give --data.")
    with tempfile.TemporaryDirectory(prefix="penchant-verify-") as name:
        copy = Path(name) / "run"
        _copy(run, copy, start)
        until = _UntilStep(reporter, stopper, last)
        try:
            train_run(
                config, given, copy, resume=True, limit=facts.get("limit"), reporter=until, stopper=until.stopper
            )
        except Stopped:
            if stopper.requested:
                raise
        compared = _compare(run, copy, start, last)
    return Verified(run, start + 1, last, tuple(compared))


def _config_of(run: Path) -> Config:
    values = read_yaml(run / "config.yaml")
    values.pop("run", None)
    return build_config(values, where=str(run / "config.yaml"))


def _span(run: Path) -> tuple[int, int]:
    """The step to go on from, and the last one recorded."""
    metrics = run / "metrics.jsonl"
    lines = _lines(metrics) if metrics.is_file() else []
    last = int(lines[-1]["step"]) if lines else 0
    folder = run / "checkpoints"
    steps = sorted(step for step in steps_in(folder) if step <= last)
    whole = [step for step in steps if not checkpoint_damage(folder / f"step-{step}")]
    before = whole[:-1][-1:] or [step for step in whole if step < last]
    if not before:
        raise UsageError(
            "there is nothing to replay: no whole checkpoint lies before the last step",
            where=str(folder),
            fix="Train with --set train.checkpoint_every=N.",
        )
    return before[-1], last


def _refuse_change_within(run: Path, start: int) -> None:
    """Steps that were taken under a configuration that changed between them cannot be taken again as one."""
    within = [change for change in recorded(run).get(CHANGES, []) if change["after_step"] >= start]
    if within:
        raise UsageError(
            f"{within[-1]['key']} was changed after step {within[-1]['after_step']}, and the replay would begin "
            f"with step {start + 1}",
            where=str(run),
            fix="It can be verified once two newer checkpoints are there.",
        )


def _copy(run: Path, copy: Path, start: int) -> None:
    """All of a run that going on from a checkpoint reads."""
    copy.mkdir()
    for name in (*_LOGS, "config.yaml"):
        if (run / name).is_file():
            shutil.copyfile(run / name, copy / name)
    wanted = [f"step-{start}"]
    best = validation_state(run / "checkpoints" / wanted[0]).get("step")
    wanted += [f"best-{best}"] if best is not None and (run / "checkpoints" / f"best-{best}").is_dir() else []
    for name in wanted:
        shutil.copytree(run / "checkpoints" / name, copy / "checkpoints" / name)


class _StopAfter(Stopper):
    """Stops the replay after a step, once that step is judged; and wherever the user's own stopper would."""

    def __init__(self, user: Stopper) -> None:
        super().__init__()
        self._user = user

    def check(self) -> None:
        self._user.check()


class _UntilStep(Reporter):
    """Speaks through another reporter, and asks for a stop after a step."""

    def __init__(self, reporter: Reporter, user: Stopper, last: int) -> None:
        self._reporter, self._user, self._last = reporter, user, last
        self.stopper = _StopAfter(user)

    def note(self, text: str) -> None:
        self._reporter.note(text)

    def warn(self, text: str) -> None:
        self._reporter.warn(text)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        with self._reporter.progress(what, total) as advance:

            def done(count: int, **figures: Any) -> None:
                advance(count, **figures)
                over = figures.get("step") == self._last < total  # after the very last step a run ends by itself
                self.stopper.requested = over or self._user.requested

            yield done


def _compare(run: Path, copy: Path, start: int, last: int) -> list[str]:
    """What was compared; the first difference ends it."""
    compared = []
    for name in _LOGS:
        if (run / name).is_file():
            _compare_lines(name, _lines(run / name), _lines(copy / name), start, last)
            compared.append(f"{name}, steps {start + 1} to {last}")
    for step in sorted(step for step in steps_in(run / "checkpoints") if step > start):
        place = Path("checkpoints", f"step-{step}")
        if (copy / place).is_dir() and not checkpoint_damage(run / place):
            _compare_checkpoints(run / place, copy / place)
            compared.append(f"{place}: weights, optimizer, generators")
    if finished(run) and (copy / "model").is_dir():
        for path in sorted((run / "model").glob("*.safetensors")):
            other = copy / "model" / path.name
            if not other.is_file() or sha256_of(path) != sha256_of(other):
                raise _different(f"model/{path.name}", "its SHA-256")
            compared.append(f"model/{path.name}")
    return compared


def _compare_lines(
    name: str, wanted: list[dict[str, Any]], found: list[dict[str, Any]], start: int, last: int
) -> None:
    old = {line["step"]: line for line in wanted if start < line["step"] <= last}
    new = {line["step"]: line for line in found if start < line["step"] <= last}
    for step in sorted(old.keys() | new.keys()):
        if step not in old or step not in new:
            raise _different(f"{name}, step {step}", "the line is there only once")
        for key in dict.fromkeys([*old[step], *new[step]]):
            before, now = old[step].get(key), new[step].get(key)
            if key not in _UNEQUAL_BY_NATURE and not _same(before, now):
                raise _different(f"{name}, step {step}, {key}", f"it was {before!r} and is {now!r}")


def _same(one: Any, other: Any) -> bool:
    """Whether two figures are the same, bit for bit; what is no number equals what is no number."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return json.dumps(one) == json.dumps(other)


def _compare_checkpoints(wanted: Path, found: Path) -> None:
    for path in sorted(wanted.glob("*.safetensors")):
        old, new = load_file(path), load_file(found / path.name)
        for name in dict.fromkeys([*old, *new]):
            if name not in old or name not in new or not _same_bits(old[name], new[name]):
                raise _different(f"{wanted.name}/{path.name}", name)
    old_state, new_state = checkpoint_state(wanted), checkpoint_state(found)
    for key in ("step", "optimizer", "validation", "rng"):
        if old_state[key] != new_state[key]:
            raise _different(f"{wanted.name}/state.json", key)


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))


def _different(where: str, what: str) -> PenchantError:
    return PenchantError(
        f"taken once more, the run is not the same: {what}",
        where=where,
        fix="Look whether machine, versions, threads and caches are those of the run.",
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a torn last one is none."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
