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
from penchant.data.ledger import Ledger
from penchant.errors import DiskError, Stopped, UsageError
from penchant.models.bundled import cache_directory
from penchant.models.digest import weights_digest
from penchant.models.freeze import TrainablePart, choose_trainable, configured_choice
from penchant.models.load import LoadedModel, architecture_for, load_model
from penchant.models.memory import release_memory
from penchant.models.precision import Precision, choose_device, choose_precision
from penchant.models.save import save_and_merge_adapters, save_model
from penchant.objective.content_address import pair_keys, store_name, trunk_facts
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import LOSSES, loss_at_reference, needs_reference
from penchant.objective.moving_reference import MovingReference
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import Reference, reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.objective.trunk_store import TrunkStore
from penchant.tokens.chat import ChatFormat
from penchant.training.checkpoint import (
    check_identity,
    load_checkpoint,
    load_reference,
    newest_checkpoint,
    save_checkpoint,
    validation_state,
)
from penchant.training.loop import Trainer, train
from penchant.training.optimizer import check_optimizer, make_optimizer
from penchant.training.schedule import total_steps
from penchant.training.telemetry import MetricsLog, peak_memory_bytes
from penchant.training.validation import HeldOut, Validator, chunks_by_length
from penchant.types import PreferencePair, TokenizedPair
from penchant.workflow.grading import describe_grade, grade_prediction, steady_seconds
from penchant.workflow.held_out import one_after_the_other, read_held_out, tokenize_held_out
from penchant.workflow.other_reference import OtherReference, describe_other, score_other_reference
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import (
    circumstances,
    describe_ledger,
    fingerprint,
    require_chat_format,
    scoring_model,
    set_threads,
    tokenize,
    training_examples,
)
from penchant.workflow.sft import training_pairs
from penchant.workflow.stopping import Stopper, stoppable_progress

_FACTS = Path("eval", "training.json")


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
        kept_step: The step whose weights were saved: the last, or the best by `train.keep_best`.
    """

    run: Path
    pairs: int
    steps: int
    reference_seconds: float
    train_seconds: float
    first: dict[str, float]
    last: dict[str, float]
    kept_step: int


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
    check_optimizer(config.train)
    device = choose_device(config.engine.device)
    _refuse_unused_reference(config)
    pairs, ledger = training_pairs(config, data, limit=limit)
    read = read_held_out(config, data)
    _claim(out, resume=resume)
    loaded, tokenized, held_out, start, other = _open(config, pairs, ledger, read, device, reporter, stopper)
    part = choose_trainable(loaded.model, **configured_choice(config.model, config.train.seed))
    reporter.note(describe_ledger(ledger))
    reporter.note(describe_part(part))
    _check_space(out, part, best=config.train.keep_best is not None)
    identity = {
        "config": config.resolved(),
        "data": fingerprint(tokenized),
        "model": start,
        **({"validation data": fingerprint(held_out)} if held_out else {}),
        **({"reference": other.weights} if other else {}),
    }
    checkpoint = newest_checkpoint(out / "checkpoints") if resume else None
    if checkpoint:  # before anything in the run directory is changed
        check_identity(checkpoint, identity)
    else:
        _forget_the_end(out)
    _write_config(out, config, identity)
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
    layout = _layout(config, model.precision, tokenized, held_out)
    with contextlib.closing(_trunk_cache(config.engine, model, layout, reporter)) as cache:
        if other is not None:
            reference = _stored(other.scores, other.weights, out)
        else:
            reference = _reference(config, model, layout, cache, identity, out, reporter, stopper)
        if model.trunk_layers and all(index in cache for index in layout.keys):
            model.rest_trunk()  # nobody will ask for the layers below again
        seconds = time.perf_counter() - started
        trainer = Trainer(
            config,
            model,
            tokenized,
            reference,
            make_optimizer(config, model),
            cache,
            prompts=layout.prompts,
            note=reporter.note,
            moving=_moving_reference(config, model),
        )
        if checkpoint:
            _resume(trainer, checkpoint, identity)
        validator = _validator(trainer, HeldOut(layout.pairs, layout.held_out, reference, cache), checkpoint, out)
        lines, step_seconds = _run_steps(trainer, validator, out, identity, reporter, stopper)
    steps = int(lines[-1]["step"])
    kept_step = (validator.restore_best() if validator else None) or steps
    del trainer, reference  # their memory is worth more while the whole model is read again to be saved
    release_memory()
    _save(out, loaded, part, card=_card(config, kept_step))
    result = TrainResult(
        out,
        min(len(tokenized), steps * config.train.batch_pairs),
        steps,
        seconds,
        seconds + step_seconds,
        lines[0],
        lines[-1],
        kept_step,
    )
    facts = _facts(result, part, model) | {"loss_at_reference": loss_at_reference(config.objective)}
    facts |= _validation_facts(validator, result, reporter)
    if not checkpoint:  # of a resumed run the total is not known
        facts |= _grade(out, config, len(tokenized), facts, lines, time.perf_counter() - began, reporter)
    write_json(out / _FACTS, facts)
    return result


def training_tokens(
    config: Config,
    pairs: Sequence[PreferencePair],
    ledger: Ledger,
    chat: ChatFormat,
    *,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> Sequence[TokenizedPair]:
    """Return pairs as a run trains on them: as ids, and as `training_examples` makes them.

    Raises:
        ModelError: The model has no chat template, and is to be trained on one.
        DataError: No pair is left.
    """
    require_chat_format(chat, config)
    tokenized = tokenize(pairs, ledger, chat, config.data, reporter=reporter, stopper=stopper)
    return training_examples(config, tokenized)


def finished(run: Path) -> bool:
    """Return whether a run came to its end: its facts are what is written last."""
    return (run / _FACTS).is_file() and (run / "model").is_dir()


def _start(config: Config, device: str) -> LoadedModel:
    path, four_bit = config.model.path, config.model.load_in_4bit
    return load_model(path, architecture=architecture_for(config.model, path), device=device, four_bit=four_bit)


def _open(
    config: Config,
    pairs: Sequence[PreferencePair],
    ledger: Ledger,
    read: tuple[list[PreferencePair], Ledger] | None,
    device: str,
    reporter: Reporter,
    stopper: Stopper,
) -> tuple[LoadedModel, Sequence[TokenizedPair], Sequence[TokenizedPair], str, OtherReference | None]:
    """The policy, pairs and held-out pairs as it reads them, its digest, and another reference if asked for."""
    loaded = _start(config, device)
    tokenized = training_tokens(config, pairs, ledger, loaded.chat, reporter=reporter, stopper=stopper)
    held_out = tokenize_held_out(read, tokenized, loaded.chat, config, reporter) if read else []
    weights = weights_digest(loaded.model)
    if config.model.reference is None:
        return loaded, tokenized, held_out, weights, None
    precision, vocabulary = choose_precision(config.engine.precision, device), loaded.tokenizer.get_vocab()
    layout = _layout(config, precision, tokenized, held_out)
    del loaded  # one model in memory at a time
    chunks = [*layout.chunks, *layout.held_out]
    other = score_other_reference(config, layout.pairs, chunks, vocabulary, reporter, stopper)
    reporter.note(describe_other(config, weights, other))
    return _start(config, device), tokenized, held_out, weights, other


def _refuse_unused_reference(config: Config) -> None:
    if config.model.reference is not None and config.objective.reference_every is not None:
        raise UsageError(
            "a reference that moves begins as the policy; model.reference would not be used",
            where="model.reference",
            fix="Remove it, or objective.reference_every.",
        )
    if config.model.reference is not None and not needs_reference(config.objective):
        users = ", ".join(name for name, other in LOSSES.items() if other.needs_reference)
        raise UsageError(
            f'objective.loss "{" + ".join(config.objective.losses)}" has no reference; those that have: {users}',
            where="model.reference",
            fix="Remove model.reference, or choose another objective.loss.",
        )


def describe_part(part: TrainablePart) -> str:
    """Return one line about what is trained."""
    line = f"Training {part.trained / 1e6:.1f} of {part.total / 1e6:.1f} million parameters ({part.share:.0%})"
    if part.adapters is not None:
        line = f"Training adapters of {part.trained / 1e6:.1f} million parameters ({part.share:.1%} of the model)"
    if part.frozen_layers:
        line += f"; {part.frozen_layers} layers below are frozen and run once"
    if part.kept_tied:
        line += (
            "; the head stays tied, so the embedding is trained too and no layer is constant: every layer is run "
            "for policy and reference, and the gradient passes through all of them"
        )
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


def _forget_the_end(out: Path) -> None:
    """Let no run that begins here look finished by what an earlier one left."""
    with disk_errors(out):
        (out / _FACTS).unlink(missing_ok=True)


def _check_space(out: Path, part: TrainablePart, *, best: bool) -> None:
    """Refuse before hours are spent: the saved model, and three checkpoints of weights and two moments.

    The best weights lie there up to four times: those that two checkpoints count on, the newest, and the next.
    """
    needed = 4 * part.total + 3 * 12 * part.trained + best * 4 * 4 * part.trained
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DiskError(
            f"{free / 1e9:.1f} GB free, but the run needs up to {needed / 1e9:.1f} GB",
            where=str(out),
            fix="Free some space, or choose another --out.",
        )


def _write_config(out: Path, config: Config, identity: dict[str, Any]) -> None:
    weights = {"policy": identity["model"]}
    if needs_reference(config.objective):
        weights["reference"] = identity.get("reference", identity["model"])
    facts = {**circumstances(config.engine), "data_fingerprint": identity["data"], "weights": weights}
    values = {**config.resolved(), "run": facts}
    write_text(out / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True)
class _Layout:
    """Numbers of the prompts, which pairs share a pass, and each pair's key in the stores.

    Held-out pairs are numbered after the training pairs, so both have one store, one cache and one reference.
    """

    pairs: Sequence[TokenizedPair]
    prompts: list[int] | None
    chunks: list[list[int]]  # training pairs, in the first epoch
    held_out: list[list[int]]
    keys: dict[int, bytes]


def _layout(
    config: Config, precision: Precision, pairs: Sequence[TokenizedPair], held_out: Sequence[TokenizedPair]
) -> _Layout:
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
    parts = chunks_by_length(held_out, config.engine.micro_batch_tokens)
    others = [[len(pairs) + place for place in part] for part in parts]
    both = one_after_the_other(pairs, held_out)
    return _Layout(both, prompts, chunks, others, pair_keys(both, [*chunks, *others], precision))


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
    layout: _Layout,
    cache: TrunkCache,
    identity: dict[str, Any],
    out: Path,
    reporter: Reporter,
    stopper: Stopper,
) -> PairLogps | None:
    """The reference's log-probabilities, if the loss needs them; the run directory says where they are from."""
    if not needs_reference(config.objective):
        return None
    with stoppable_progress(reporter, stopper, "Scoring the reference", len(layout.keys)) as scored:
        reference = reference_logps(
            model,
            layout.pairs,
            cache_directory() / "reference",
            micro_batch_tokens=config.engine.micro_batch_tokens,
            weights=identity["model"],
            chunks=[*layout.chunks, *layout.held_out],
            keys=layout.keys,
            trunk_cache=cache,
            on_pairs=scored,
            note=reporter.note,
            ld_alpha=config.objective.ld_alpha,
        )
    return _stored(reference, identity["model"], out)


def _stored(reference: Reference, weights: str, out: Path) -> PairLogps | None:
    """The log-probabilities, once the run directory says where they are from."""
    write_json(out / "reference" / "store.json", {**reference.facts(), "weights": weights})
    return reference.logps


def _resume(trainer: Trainer, checkpoint: Path, identity: dict[str, Any]) -> None:
    """Put everything back to where the checkpoint left it."""
    trainer.start_step = load_checkpoint(checkpoint, trainer.model.model, trainer.optimizer, identity)
    if trainer.moving is not None:
        trainer.moving.load_state(load_reference(checkpoint))
    trainer.note(f"Resumed after step {trainer.start_step} ({checkpoint})")


def _moving_reference(config: Config, model: PairModel) -> MovingReference | None:
    asked = config.objective
    if asked.reference_every is None:
        return None
    return MovingReference(
        model, share=asked.reference_share, every=asked.reference_every, ld_alpha=asked.ld_alpha
    )


def _run_steps(
    trainer: Trainer,
    validator: Validator | None,
    out: Path,
    identity: dict[str, Any],
    reporter: Reporter,
    stopper: Stopper,
) -> tuple[list[dict[str, float]], float]:
    """Do the steps that are left; return the metrics of all steps, and the seconds they took."""
    log = MetricsLog(out / "metrics.jsonl", keep_steps=trainer.start_step)
    lines: list[dict[str, float]] = []
    every = trainer.config.train.checkpoint_every
    with reporter.progress("Training", trainer.total_steps) as advance:
        if trainer.start_step:
            advance(trainer.start_step)

        def done(step: int, metrics: dict[str, float]) -> bool:
            log.append(metrics)
            lines.append(metrics)
            advance(1, **metrics)
            ends = validator is not None and validator.after_step(step)
            stopping = stopper.requested and step < trainer.total_steps and not ends
            if stopping or (every and step % every == 0):
                save_checkpoint(
                    out / "checkpoints",
                    step,
                    trainer.model.model,
                    trainer.optimizer,
                    identity,
                    validation=validator.state() if validator else None,
                    reference=trainer.moving.state() if trainer.moving else None,
                )
            if stopping:
                raise Stopped(
                    f"stopped after step {step} of {trainer.total_steps}; everything is saved",
                    where=str(out),
                    fix="Go on with the same command and --resume.",
                )

            return ends

        if validator is None or not validator.exhausted:
            train(trainer, done)
    if not lines and finished(out):
        raise UsageError("the run is already finished", where=str(out))
    if trainer.start_step:
        lines = [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()]
    return lines, sum(line["seconds"] for line in lines)


def _validator(trainer: Trainer, held_out: HeldOut, checkpoint: Path | None, out: Path) -> Validator | None:
    """What validates as configured, as far as it had come at the checkpoint; None without held-out pairs."""
    if not held_out.chunks:
        (out / "validation.jsonl").unlink(missing_ok=True)  # of a run that came to nothing here
        return None
    return Validator(
        trainer.config,
        trainer.model,
        held_out,
        out,
        total_steps=trainer.total_steps,
        note=trainer.note,
        start_step=trainer.start_step,
        state=validation_state(checkpoint) if checkpoint else None,
    )


def _save(out: Path, loaded: LoadedModel, part: TrainablePart, *, card: str) -> None:
    if part.adapters is not None:
        save_and_merge_adapters(part.adapters, out / "adapter")
    save_model(loaded, out / "model", card=card)


def _validation_facts(validator: Validator | None, result: TrainResult, reporter: Reporter) -> dict[str, Any]:
    """Which weights were saved and what validating took, also in one line; nothing without validation."""
    if validator is None:
        return {}
    reporter.note(f"The weights of step {result.kept_step} are saved, of {result.steps} steps taken")
    return {
        "validation_pairs": validator.pairs,
        "validation_seconds": validator.seconds(),
        "kept_step": result.kept_step,
    }


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
    names = list(config.objective.losses)
    known = "; ".join(f"{name}: {LOSSES[name].equation} ({LOSSES[name].paper})" for name in names)
    return (
        "---\nlibrary_name: transformers\ntags: [penchant, preference-alignment, "
        f"{', '.join(names)}]\n---\n\n# Aligned with Penchant\n\n"
        f"Start: `{config.model.path}`. Objective: {known}; "
        f"{steps} steps of {config.train.batch_pairs} pairs, "
        f"learning rate {config.train.learning_rate:g}, seed {config.train.seed}.\n\n"
        "Figures and limits stand in the run's report. The licence of the start model applies.\n"
    )
