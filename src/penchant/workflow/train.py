"""`penchant train`: from a recipe and preference pairs to a run directory with a trained model."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from penchant.batching.packing import first_epoch_chunks, number_prompts
from penchant.batching.pair_batch import pair_group
from penchant.config import Config, EngineConfig
from penchant.data.atomic import disk_errors, write_json, write_text
from penchant.errors import DiskError, Stopped, UsageError
from penchant.models.bundled import cache_directory
from penchant.models.digest import weights_digest
from penchant.models.freeze import TrainablePart, choose_trainable
from penchant.models.load import load_model
from penchant.models.lora import Lora
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device
from penchant.models.save import save_and_merge_adapters, save_model
from penchant.objective.content_address import pair_keys, store_name, trunk_facts
from penchant.objective.logps import PairLogps
from penchant.objective.losses import LOSSES
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.objective.trunk_store import TrunkStore
from penchant.training.checkpoint import check_identity, load_checkpoint, newest_checkpoint, save_checkpoint
from penchant.training.loop import Trainer, make_optimizer, train
from penchant.training.schedule import total_steps
from penchant.training.telemetry import MetricsLog, peak_memory_bytes
from penchant.types import TokenizedPair
from penchant.workflow.grading import describe_grade, grade_prediction, steady_seconds
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import (
    circumstances,
    describe_ledger,
    fingerprint,
    read_pairs,
    scoring_model,
    set_threads,
    tokenize,
    with_random_labels,
)
from penchant.workflow.stopping import Stopper, stoppable_progress


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to.

    Attributes:
        run: The run directory.
        pairs: Training pairs that were seen.
        steps: Optimizer steps.
        reference_seconds: Spent before the first step: opening the stores, scoring the reference.
        train_seconds: Spent in optimizer steps, scoring the reference included.
        first: Metrics of the first step.
        last: Metrics of the last step.
    """

    run: Path
    pairs: int
    steps: int
    reference_seconds: float
    train_seconds: float
    first: dict[str, float]
    last: dict[str, float]


def train_run(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    limit: int | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> TrainResult:
    """Train as configured on the pairs of `data` and write everything to `out`.

    Args:
        config: The whole configuration.
        data: A file of pairs, or a folder with a `train` split.
        out: The run directory.
        resume: Go on from the newest whole checkpoint in `out`, if there is one.
        limit: Only the first rows of the data.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        PenchantError: See `penchant.errors`; nothing is half-written that looks whole.
    """
    began = time.perf_counter()
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    set_threads(config.engine)
    device = choose_device(config.engine.device)
    pairs, ledger = read_pairs(data, split="train", limit=limit)
    _claim(out, resume=resume)
    loaded = load_model(config.model.path, device=device)
    tokenized = tokenize(pairs, ledger, loaded.chat, config.data, reporter=reporter, stopper=stopper)
    if config.data.random_labels:
        tokenized = with_random_labels(tokenized, config.train.seed)
    start = weights_digest(loaded.model)
    part = choose_trainable(loaded.model, config.model.last_layers, _lora(config))
    reporter.note(describe_ledger(ledger))
    reporter.note(describe_part(part))
    _check_space(out, part)
    identity = {
        "config": config.resolved(),
        "data": fingerprint(tokenized),
        "model": start,
    }
    checkpoint = newest_checkpoint(out / "checkpoints") if resume else None
    if checkpoint:  # before anything in the run directory is changed
        check_identity(checkpoint, identity)
    _write_config(out, config, identity["data"])
    ledger.write(out / "ledger.parquet")
    model = scoring_model(
        loaded,
        config.engine,
        max_tokens=config.data.max_tokens,
        trunk_layers=part.frozen_layers,
        reporter=reporter,
        step_tokens=max(config.engine.micro_batch_tokens, 2 * config.data.max_tokens),
    )
    started = time.perf_counter()
    layout = _layout(config, model, tokenized)
    with contextlib.closing(_trunk_cache(config.engine, model, layout, reporter)) as cache:
        reference = _reference(config, model, tokenized, layout, cache, identity, out, reporter, stopper)
        if model.trunk_layers and all(index in cache for index in layout.keys):
            model.rest_trunk()  # nobody will ask for the layers below again
        seconds = time.perf_counter() - started
        optimizer = make_optimizer(config, model)
        trainer = Trainer(
            config,
            model,
            tokenized,
            reference,
            optimizer,
            cache,
            prompts=layout.prompts,
            note=reporter.note,
        )
        if checkpoint:
            trainer.start_step = load_checkpoint(checkpoint, model.model, trainer.optimizer, identity)
            reporter.note(f"Resumed after step {trainer.start_step} ({checkpoint})")
        lines, step_seconds = _run_steps(trainer, out, identity, reporter, stopper)
    steps = trainer.total_steps
    del trainer, optimizer, reference  # their memory is worth more while the whole model is read again to be saved
    release_memory()
    if part.adapters is not None:
        save_and_merge_adapters(part.adapters, out / "adapter")
    save_model(loaded, out / "model", card=_card(config, steps))
    seen = min(len(tokenized), steps * config.train.batch_pairs)
    result = TrainResult(out, seen, steps, seconds, seconds + step_seconds, lines[0], lines[-1])
    facts = _facts(result, part, model)
    if not checkpoint:  # of a resumed run the total is not known
        facts |= _grade(out, config, len(tokenized), facts, lines, time.perf_counter() - began, reporter)
    write_json(out / "eval" / "training.json", facts)
    return result


def _lora(config: Config) -> Lora | None:
    rank = config.model.lora_rank
    return None if rank is None else Lora(rank, config.model.lora_alpha, config.train.seed)


def describe_part(part: TrainablePart) -> str:
    """Return one line about what is trained."""
    line = f"Training {part.trained / 1e6:.1f} of {part.total / 1e6:.1f} million parameters ({part.share:.0%})"
    if part.adapters is not None:
        line = f"Training adapters of {part.trained / 1e6:.1f} million parameters ({part.share:.1%} of the model)"
    if part.frozen_layers:
        line += f"; {part.frozen_layers} layers below are frozen and run once for policy and reference"
    return line + ("; the head has weights of its own now (it was tied to the embedding)" if part.untied else "")


def _claim(out: Path, *, resume: bool) -> None:
    """Make the run directory; refuse one that already holds a run, unless it is to be resumed."""
    if (out / "metrics.jsonl").exists() and not resume:
        raise UsageError(
            "there is a run here already", where=str(out), fix="Give --resume, or choose another --out."
        )
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "eval").mkdir(exist_ok=True)


def _check_space(out: Path, part: TrainablePart) -> None:
    """Refuse before hours are spent: the saved model, and three checkpoints of weights and two moments."""
    needed = 4 * part.total + 3 * 12 * part.trained
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DiskError(
            f"{free / 1e9:.1f} GB free, but the run needs up to {needed / 1e9:.1f} GB",
            where=str(out),
            fix="Free some space, or choose another --out.",
        )


def _write_config(out: Path, config: Config, data: str) -> None:
    values = {**config.resolved(), "run": {**circumstances(config.engine), "data_fingerprint": data}}
    write_text(out / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True)
class _Layout:
    """Numbers of the prompts, which pairs share a pass in the first epoch, and each pair's key in the stores."""

    prompts: list[int] | None
    chunks: list[list[int]]
    keys: dict[int, bytes]


def _layout(config: Config, model: PairModel, pairs: Sequence[TokenizedPair]) -> _Layout:
    by_prompt = config.train.order == "prompts"
    prompts = number_prompts(pair.prompt_ids for pair in pairs) if by_prompt else None
    chunks = first_epoch_chunks(
        [pair_group(pair).num_packed_tokens for pair in pairs],
        steps=total_steps(config.train, len(pairs)),
        batch=config.train.batch_pairs,
        max_tokens=config.engine.micro_batch_tokens,
        seed=config.train.seed,
        prompts=prompts,
    )
    return _Layout(prompts, chunks, pair_keys(pairs, chunks, model.precision))


def _trunk_cache(engine: EngineConfig, model: PairModel, layout: _Layout, reporter: Reporter) -> TrunkCache:
    """A cache in memory and, on a CPU, on disk: an accelerator computes these as fast as a disk reads them."""
    if model.trunk_layers == 0:
        return TrunkCache(0)
    if engine.trunk_cache_disk_bytes == 0 or not model.device.startswith("cpu"):
        return TrunkCache(engine.trunk_cache_bytes)
    store = TrunkStore(
        cache_directory() / "trunk",
        store_name(trunk_facts(model)),
        keys=layout.keys,
        max_bytes=engine.trunk_cache_disk_bytes,
        note=reporter.note,
    )
    return TrunkCache(engine.trunk_cache_bytes, store)


def _reference(
    config: Config,
    model: PairModel,
    pairs: Sequence[TokenizedPair],
    layout: _Layout,
    cache: TrunkCache,
    identity: dict[str, Any],
    out: Path,
    reporter: Reporter,
    stopper: Stopper,
) -> PairLogps | None:
    """The reference's log-probabilities, if the loss needs them; the run directory says where they are from."""
    if not LOSSES[config.objective.loss].needs_reference:
        return None
    with stoppable_progress(reporter, stopper, "Scoring the reference", len(layout.keys)) as scored:
        reference = reference_logps(
            model,
            pairs,
            cache_directory() / "reference",
            micro_batch_tokens=config.engine.micro_batch_tokens,
            weights=identity["model"],
            chunks=layout.chunks,
            keys=layout.keys,
            trunk_cache=cache,
            on_pairs=scored,
            note=reporter.note,
        )
    write_json(out / "reference" / "store.json", reference.facts())
    return reference.logps


def _run_steps(
    trainer: Trainer, out: Path, identity: dict[str, Any], reporter: Reporter, stopper: Stopper
) -> tuple[list[dict[str, float]], float]:
    """Do the steps that are left; return the metrics of all steps, and the seconds they took."""
    log = MetricsLog(out / "metrics.jsonl", keep_steps=trainer.start_step)
    lines: list[dict[str, float]] = []
    every = trainer.config.train.checkpoint_every
    with reporter.progress("Training", trainer.total_steps) as advance:
        if trainer.start_step:
            advance(trainer.start_step)

        def done(step: int, metrics: dict[str, float]) -> None:
            log.append(metrics)
            lines.append(metrics)
            advance(1, **metrics)
            stopping = stopper.requested and step < trainer.total_steps
            if stopping or (every and step % every == 0):
                save_checkpoint(out / "checkpoints", step, trainer.model.model, trainer.optimizer, identity)
            if stopping:
                raise Stopped(
                    f"stopped after step {step} of {trainer.total_steps}; everything is saved",
                    where=str(out),
                    fix="Go on with the same command and --resume.",
                )

        train(trainer, done)
    if not lines:
        raise UsageError("the run is already finished", where=str(out))
    if trainer.start_step:
        lines = [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()]
    return lines, sum(line["seconds"] for line in lines)


def _grade(
    out: Path,
    config: Config,
    pairs: int,
    facts: dict[str, Any],
    lines: list[dict[str, float]],
    total_seconds: float,
    reporter: Reporter,
) -> dict[str, Any]:
    """How good the plan was that lies in the run directory, under `plan`; nothing when there is none."""
    measured = {
        "memory_bytes": facts["peak_memory_bytes"],
        "step_seconds": steady_seconds(lines),
        "total_seconds": total_seconds,
    }
    grade = grade_prediction(out, config, pairs, measured)
    if not grade:
        return {}
    reporter.note(describe_grade(grade))
    return {"plan": grade}


def _facts(result: TrainResult, part: TrainablePart, model: PairModel) -> dict[str, Any]:
    return {
        "train_pairs": result.pairs,
        "steps": result.steps,
        "train_seconds": result.train_seconds,
        "reference_seconds": result.reference_seconds,
        "peak_memory_bytes": peak_memory_bytes(model.device),
        "trained_parameters": part.trained,
        "parameters": part.total,
        "frozen_layers": part.frozen_layers,
        "prefix_sharing": model.prefix_sharing,
        "precision": model.precision,
    }


def _card(config: Config, steps: int) -> str:
    loss = LOSSES[config.objective.loss]
    return (
        "---\nlibrary_name: transformers\ntags: [penchant, preference-alignment, "
        f"{config.objective.loss}]\n---\n\n# Aligned with Penchant\n\n"
        f"Start: `{config.model.path}`. Objective: {config.objective.loss} ({loss.equation}; {loss.paper}), "
        f"{steps} steps of {config.train.batch_pairs} pairs, "
        f"learning rate {config.train.learning_rate:g}, seed {config.train.seed}.\n\n"
        "Figures and limits stand in the run's report. The licence of the start model applies.\n"
    )
