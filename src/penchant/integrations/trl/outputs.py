"""What scripts for TRL look for in the output directory, beside the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from penchant.data.atomic import disk_errors, write_json


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
