"""`penchant.train`: the training of the command line, on a model and rows in memory or on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from penchant.config import Config
from penchant.errors import UsageError
from penchant.library.models import AnyModel, is_named, starting_at, write_start
from penchant.library.rows import Data, path_of, write_rows
from penchant.library.settings import Settings, config_of
from penchant.models.load import LoadedModel, load_model
from penchant.processes import done_by_first, is_first
from penchant.workflow.reporter import Reporter
from penchant.workflow.run_directory import FACTS, claim
from penchant.workflow.tracking.asked import trackers_of
from penchant.workflow.tracking.tracked import tracked
from penchant.workflow.train import train_run


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        run: The run directory (docs/run-directory.md); every `penchant` command takes it.
        config: As it was run, with the start's place in it.
        steps: Optimizer steps.
        pairs: Training pairs that were seen.
        figures: What the run says of itself (`eval/training.json`): seconds, memory, trained parameters, findings.
    """

    run: Path
    config: Config
    steps: int
    pairs: int
    figures: dict[str, Any]

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """A mapping a step: `loss`, `rewards/margins` and the others of `metrics.jsonl`."""
        lines = (self.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    @cached_property
    def _loaded(self) -> LoadedModel:
        return load_model(str(self.run / "model"))

    @property
    def model(self) -> PreTrainedModel:
        """The trained model, in fp32 on the CPU and in evaluation mode; read from the run when first asked for."""
        return self._loaded.model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self._loaded.tokenizer

    def _repr_html_(self) -> str:
        """What a notebook shows: curves, their figures, and what was found."""
        from penchant.reporting.notebook import trained_html  # not above: it loads what draws charts

        return trained_html(self.run, self.steps, self.figures, self.metrics)


def train(
    model: AnyModel,
    data: Data,
    out: str | Path,
    *,
    tokenizer: Any = None,
    config: Settings = None,
    held_out: Data | None = None,
    resume: bool = False,
    allow_changes: Sequence[str] = (),
    limit: int | None = None,
    track: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Trained:
    """Train a model on preference pairs, or what else the loss reads, and write a run directory.

    It is the training of `penchant train`, with the same weights to the last bit. What is given in memory is
    written down first, so that the run can be resumed, evaluated and replayed without this process: rows to
    `out/data/`, a model to `out/start/`. The caller's own objects stay as they are.

    Args:
        model: Where to start: a directory, a Hub id, "bundled"; or a loaded transformers model. It takes the place
            of the configuration's `model.path`.
        data: A file, or a folder with a `train` split; or rows: a `datasets.Dataset`, a list of dictionaries.
            Their layouts are those of files (docs/data.md).
        out: The run directory.
        tokenizer: Of a loaded model.
        config: See `penchant.library.settings.Settings`.
        held_out: Pairs to validate on, with `train.evaluate_every`; in place of `train.evaluate_data`.
        resume: Go on from the newest whole checkpoint in `out`, if there is one.
        allow_changes: Keys of the configuration that may differ from the checkpoint's.
        limit: Only the first rows.
        track: Where figures go too: trackio, tensorboard, wandb (docs/tracking.md).
        reporter: Hears notes and progress; by default nobody does.

    Raises:
        PenchantError: See `penchant.errors`: what is wrong, where, and what to do about it.
    """
    folder, settings = Path(out), config_of(config)
    trackers = trackers_of(track, where="track")
    given_model, path = not is_named(model, tokenizer), path_of(data)
    if held_out is not None and settings.train.evaluate_every is None:
        raise UsageError("held_out is used only with train.evaluate_every", fix="Set it, or leave out held_out.")
    claim(folder, resume=resume)
    if given_model:
        assert isinstance(model, PreTrainedModel)  # is_named says so
        done_by_first(lambda: write_start(model, tokenizer, folder / "start", resume=resume))
    settings = starting_at(settings, str(folder / "start")) if given_model else _started(settings, str(model))
    file = path or _written(data, folder / "data" / "train.jsonl", resume=resume)
    if held_out is not None:
        own = path_of(held_out) or _written(held_out, folder / "data" / "test.jsonl", resume=resume)
        part = settings.train.model_copy(update={"evaluate_data": str(own)})
        settings = settings.model_copy(update={"train": part})
    with tracked(reporter or Reporter(), trackers if is_first() else ()) as told:
        result = train_run(
            settings, file, folder, resume=resume, allow_changes=allow_changes, limit=limit, reporter=told
        )
    figures = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return Trained(folder, settings, result.steps, result.pairs, figures)


def _started(config: Config, path: str) -> Config:
    return config if config.model.path == path else starting_at(config, path)


def _written(rows: Data, file: Path, *, resume: bool) -> Path:
    done_by_first(lambda: write_rows(rows, file, resume=resume))
    return file
