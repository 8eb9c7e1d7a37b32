"""What a training run writes into its directory beside its logs, and what it must find there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from penchant.config import Config
from penchant.data.atomic import disk_errors, write_json, write_text
from penchant.errors import DiskError, UsageError
from penchant.failpoints import failpoint
from penchant.models.freeze import TrainablePart
from penchant.models.load import LoadedModel
from penchant.models.save import save_and_merge_adapters, save_model
from penchant.objective.loss_table import needs_reference
from penchant.training.checkpoint_folder import steps_in
from penchant.training.identity import CHANGES
from penchant.training.parallel import ParallelMode
from penchant.workflow.setup import circumstances

FACTS = Path("eval", "training.json")


def finished(run: Path) -> bool:
    """Return whether a run came to its end: its facts are what is written last."""
    return (run / FACTS).is_file() and (run / "model").is_dir()


def claim(out: Path, *, resume: bool) -> None:
    """Make the run directory.

    Raises:
        UsageError: It already holds a run, and that is not to be resumed.
        DiskError: It cannot be made.
    """
    begun = (out / "metrics.jsonl").exists() or any(steps_in(out / "checkpoints"))
    if begun and not resume:  # a checkpoint of another run must never be the newest of this one
        raise UsageError(
            "there is a run here already", where=str(out), fix="Give --resume, or choose another --out."
        )
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "eval").mkdir(exist_ok=True)
        if not resume:  # what trackers were sent of a run that was here before
            for ledger in (out / "tracking").glob("*.json"):
                ledger.unlink()


def forget_the_end(out: Path) -> None:
    """Let no run that begins here look finished by what an earlier one left."""
    with disk_errors(out):
        (out / FACTS).unlink(missing_ok=True)


def check_space(out: Path, part: TrainablePart, config: Config) -> None:
    """Refuse before hours are spent: the saved model, and three checkpoints of weights and two moments.

    A moving reference lies in each of them too, and the best weights lie there up to four times: those that two
    checkpoints count on, the newest, and the next.

    Raises:
        DiskError: There is less free.
    """
    best, moving = config.train.keep_best is not None, config.objective.reference_every is not None
    copies = 3 * (3 + moving) + 4 * best
    needed = 4 * part.total + 4 * copies * part.trained
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DiskError(
            f"{free / 1e9:.1f} GB free, but the run needs up to {needed / 1e9:.1f} GB",
            where=str(out),
            fix="Free some space, or choose another --out.",
        )


def write_config(
    out: Path,
    config: Config,
    identity: dict[str, Any],
    parallel: ParallelMode,
    *,
    data: Path,
    limit: int | None = None,
) -> None:
    """Write `config.yaml`: every value, and what else the result depends on.

    Args:
        out: The run directory.
        config: The run's.
        identity: What a resume must find unchanged.
        parallel: How its processes share the model.
        data: The pairs, kept as an absolute path for `penchant verify-resume`.
        limit: Only the first rows of them.
    """
    weights = {"policy": identity["model"]}
    if needs_reference(config.objective):
        weights["reference"] = identity.get("reference", identity["model"])
    facts = {**circumstances(config.engine), "data_fingerprint": identity["data"], "weights": weights}
    facts |= {"parallel": str(parallel), "data": str(data.resolve()), "limit": limit}
    if changes := identity.get(CHANGES):
        facts[CHANGES] = changes
    values = {**config.resolved(), "run": facts}
    write_text(out / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def save_trained(out: Path, loaded: LoadedModel, part: TrainablePart, *, card: str) -> None:
    """Write `model/`, and `adapter/` where adapters were trained."""
    if part.adapters is not None:
        save_and_merge_adapters(part.adapters, out / "adapter")
        failpoint("final.adapters_saved")
    failpoint("final.before_model")
    save_model(loaded, out / "model", card=card)
    failpoint("final.model_saved")


def write_facts(out: Path, facts: dict[str, Any]) -> None:
    """Write what the run came to, last of all: from then on it is finished.

    Raises:
        DiskError: There is no room or no permission; the run is not finished.
    """
    write_json(out / FACTS, facts)
    failpoint("final.facts_written")
