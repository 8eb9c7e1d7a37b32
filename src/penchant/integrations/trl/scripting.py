"""What scripts call of a trainer beside training: figures to files, processes, and what is not there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from transformers.trainer_callback import TrainerState

from penchant.integrations.trl.config import DPOConfig
from penchant.integrations.trl.fields import ARGUMENTS
from penchant.integrations.trl.following import show
from penchant.integrations.trl.outputs import write_results
from penchant.processes import is_first, started_together, wait_for_all, world_size

_INSTEAD = {
    "push_to_hub": "`penchant export OUTPUT_DIR --to hf --push USER/NAME` proves the export first",
    "create_model_card": "the run writes one: OUTPUT_DIR/model/README.md",
    "add_callback": ARGUMENTS["callbacks"].why,
    "predict": "`penchant eval OUTPUT_DIR` and `penchant generate OUTPUT_DIR`",
    "hyperparameter_search": "`penchant sweep`",
    "ref_model": "the reference is scored once and kept as log-probabilities: OUTPUT_DIR/reference/store.json",
}


class Accelerator:
    """What scripts ask of accelerate's: which process this is."""

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes and speaks."""
        return speaks()

    @property
    def process_index(self) -> int:
        """The number of this process, from 0."""
        return int(os.environ.get("RANK", "0"))

    @property
    def num_processes(self) -> int:
        """How many there are."""
        return devices()

    def print(self, *values: Any) -> None:
        """Print in the first process alone."""
        if speaks():
            print(*values, flush=True)

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""
        wait_for_all()


class Scripting:
    """The methods of transformers' trainer that scripts call after training.

    Attributes:
        args: The configuration.
        state: Of the run.
    """

    args: DPOConfig
    state: TrainerState

    @property
    def accelerator(self) -> Accelerator:
        """Which process this is."""
        return Accelerator()

    def is_world_process_zero(self) -> bool:
        """Return whether this process writes and speaks."""
        return speaks()

    def log_metrics(self, split: str, metrics: Mapping[str, float]) -> None:
        """Print figures."""
        if speaks():
            print(f"***** {split} metrics *****")
            show(dict(metrics))

    def save_metrics(self, split: str, metrics: Mapping[str, float], combined: bool = True) -> None:
        """Write figures to `SPLIT_results.json`, and into `all_results.json` unless `combined` is false."""
        if speaks():
            write_results(self._folder, split, metrics, combined=combined)

    def save_state(self) -> None:
        """Write `state` to `trainer_state.json`."""
        if speaks():
            self._folder.mkdir(parents=True, exist_ok=True)
            self.state.save_to_json(str(self._folder / "trainer_state.json"))

    def end(self) -> None:
        """Do nothing: there are no trackers to finish."""

    def __getattr__(self, name: str) -> NoReturn:
        """Say what is there instead of a method of TRL's trainer."""
        if name in _INSTEAD:
            raise AttributeError(f"penchant's DPOTrainer has no {name}; instead: {_INSTEAD[name]}")
        raise AttributeError(f"penchant's DPOTrainer has no {name}; docs/from-trl.md says what it has")

    @property
    def _folder(self) -> Path:
        return Path(str(self.args.output_dir))


def devices() -> int:
    """Return how many processes share a step: those of the group, or those that torchrun started."""
    return max(world_size(), int(os.environ["WORLD_SIZE"]) if started_together() else 1)


def speaks() -> bool:
    """Return whether this process writes and speaks, also while the processes are not joined."""
    return is_first() and os.environ.get("RANK", "0") == "0"
