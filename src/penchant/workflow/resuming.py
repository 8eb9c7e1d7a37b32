"""Going on with a run: is it the same one, what of it is damaged, and on what has it been computed so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.config import EngineConfig
from penchant.data.atomic import tidy
from penchant.errors import UsageError
from penchant.processes import is_first
from penchant.strict_yaml import read_yaml
from penchant.training.checkpoint import check_identity, checkpoint_state, drop_old, find_checkpoint
from penchant.training.checkpoint_folder import Found, set_aside
from penchant.training.identity import CHANGES, record_of
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import circumstances

_BIT_FOR_BIT = (
    "versions",
    "machine",
    "device",
    "threads",
    "processes",
)  # of the circumstances: what the last bits depend on


def look_back(out: Path, *, resume: bool) -> Found:
    """Tidy a run directory and return the newest checkpoint that is whole; none unless it is to be resumed.

    Only what dead processes left unfinished is removed; a checkpoint that one of them moved aside for a new one
    gets its name back first, so that it is found.

    Raises:
        ModelError: There are checkpoints, and every one is damaged.
        DiskError: Something cannot be renamed.
    """
    for folder in (out, *(out / name for name in ("checkpoints", "eval", "reference"))):
        tidy(folder)
    return find_checkpoint(out / "checkpoints") if resume else Found(None)


def take_up(
    out: Path,
    found: Found,
    identity: dict[str, Any],
    engine: EngineConfig,
    allow: Sequence[str],
    reporter: Reporter,
) -> dict[str, Any]:
    """Check that a run may go on from a checkpoint, set aside what is damaged, and return its whole identity.

    Args:
        out: The run directory; nothing in it is changed before the checks are done.
        found: The newest checkpoint, if there is one.
        identity: Of the run that is to go on.
        engine: How it will be computed.
        allow: Keys of the configuration that may differ from the checkpoint's.
        reporter: Hears what was passed over, what was allowed, and what will not agree to the last bit.

    Raises:
        ModelError: Something else changed. See `penchant.training.identity.check_identity`.
        UsageError: A key to allow is none.
        DiskError: Something cannot be renamed.

    Returns the identity with what was allowed to change on the way, under `allowed_changes`.
    """
    history: list[dict[str, Any]] = []
    if found.path is not None:
        allowed = check_identity(found.path, identity, tuple(allow))
        history = [*checkpoint_state(found.path).get(CHANGES, []), *record_of(allowed, found.step)]
        for change in allowed:
            reporter.note(f"Allowed after step {found.step}: {change}")
        for key in sorted(set(allow) - {change.key for change in allowed}):
            reporter.note(f"--allow-change {key}: it has not changed")
        for line in moved(out, engine):
            reporter.warn(f"{line}: from here on the run agrees to rounding, not bit for bit")
    for line in found.warnings():
        reporter.warn(line)
    if is_first():
        set_aside(found)
        drop_old(out / "checkpoints")  # the process may have died between writing one and removing another
    return {**identity, CHANGES: history} if history else identity


def moved(run: Path, engine: EngineConfig) -> list[str]:
    """Return one line about each circumstance, such as the machine, that is not what a run was computed with."""
    if not (run / "config.yaml").is_file():
        return ["config.yaml is gone, which said on what the run was computed"]
    before, now = recorded(run), circumstances(engine)
    return [f"{name}: {before[name]} -> {now[name]}" for name in _BIT_FOR_BIT if before.get(name) != now[name]]


def recorded(run: Path) -> dict[str, Any]:
    """Return what a run wrote into its `config.yaml` beside the configuration.

    Raises:
        UsageError: There is no such file, or it cannot be read.
    """
    facts = read_yaml(run / "config.yaml").get("run")
    if not isinstance(facts, dict):
        raise UsageError("it names no run", where=str(run / "config.yaml"), fix="Give the directory of a run.")
    return facts
