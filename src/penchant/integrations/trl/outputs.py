"""What scripts for TRL look for in the output directory, beside the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from penchant.data.atomic import disk_errors, write_json
from penchant.errors import UsageError
from penchant.training.checkpoint_folder import steps_in


def copy_model(run: Path, target: Path) -> None:
    """Copy a run's model to where it opens with transformers; of adapters, them alone with the tokenizer.

    Raises:
        DiskError: There is no room or no permission.
    """
    adapters, model = run / "adapter", run / "model"
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(model.iterdir()):
            of_the_model = path.suffix == ".safetensors" or path.name.endswith((".index.json", "config.json"))
            if adapters.is_dir() and of_the_model and path.name != "tokenizer_config.json":
                continue
            shutil.copyfile(path, target / path.name)
        for path in sorted(adapters.iterdir()) if adapters.is_dir() else ():
            shutil.copyfile(path, target / path.name)


def write_results(folder: Path, split: str, metrics: Mapping[str, float], *, combined: bool = True) -> None:
    """Write `SPLIT_results.json`, and unless `combined` is false the same into `all_results.json`.

    Raises:
        DiskError: There is no room or no permission.
    """
    together = folder / "all_results.json"
    with disk_errors(together):
        folder.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(together.read_text(encoding="utf-8")) if together.is_file() else {}
    write_json(folder / f"{split}_results.json", dict(metrics))
    if combined:
        write_json(together, {**earlier, **metrics})


def is_to_resume(asked: bool | str | None, run: Path) -> bool:
    """Return whether a run goes on from a checkpoint.

    Args:
        asked: Whether it is to; or the checkpoint, or the run directory.
        run: The run directory.

    Raises:
        UsageError: A run lies there and is not to be resumed, or what is asked for is not its newest checkpoint.
    """
    steps = steps_in(run / "checkpoints")
    if not asked:
        if steps or (run / "metrics.jsonl").exists():
            raise UsageError(
                "there is a run here already",
                where=str(run),
                fix="Go on with train(resume_from_checkpoint=True), or give another output_dir.",
            )
        return False
    newest = run / "checkpoints" / f"step-{max(steps, default=0)}"
    if not steps or (asked is not True and Path(asked).resolve() not in (run.resolve(), newest.resolve())):
        raise UsageError(
            f"{newest} is the newest checkpoint" if steps else "there is no checkpoint to resume from",
            where=str(run if asked is True else asked),
            fix="Give resume_from_checkpoint=True for the newest one of output_dir.",
        )
    return True
