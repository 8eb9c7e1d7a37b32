"""`penchant train`: from a recipe and preference pairs to a run directory with a trained model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.data.ledger import Ledger
from penchant.errors import UsageError
from penchant.models.digest import weights_digest
from penchant.models.freeze import TrainablePart, choose_trainable, configured_choice
from penchant.models.load import LoadedModel, architecture_for, load_model
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device, choose_precision
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import LOSSES, loss_at_reference, needs_reference
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache
from penchant.processes import done_by_first, is_first, told_by_first, wait_for_all
from penchant.reporting.model_card import model_card, trained_name
from penchant.tokens.chat import ChatFormat
from penchant.training.optimizer import check_optimizer, make_optimizer
from penchant.training.parallel import (
    ONE_COPY_EACH,
    ParallelMode,
    Shared,
    check_mode,
    gathered,
    put_trained,
    share_model,
    trained_parameters,
)
from penchant.training.step import Trainer
from penchant.training.telemetry import peak_memory_bytes
from penchant.training.validation import HeldOut, Validator
from penchant.types import PreferencePair, TokenizedPair
from penchant.workflow.grading import describe_grade, grade_prediction, steady_seconds
from penchant.workflow.held_out import read_held_out, tokenize_held_out
from penchant.workflow.other_reference import OtherReference, describe_other, score_other_reference
from penchant.workflow.reference_scores import Layout, layout_of, open_trunk_cache, refill, score_reference, stored
from penchant.workflow.reporter import Reporter
from penchant.workflow.resuming import look_back, take_up
from penchant.workflow.run_directory import (
    check_space,
    claim,
    finished,
    forget_the_end,
    save_trained,
    write_config,
    write_facts,
)
from penchant.workflow.run_lock import run_lock
from penchant.workflow.run_record import read_run
from penchant.workflow.run_steps import between_passes, moving_reference, resume_from, run_steps, validator_of
from penchant.workflow.setup import (
    describe_ledger,
    fingerprint,
    require_chat_format,
    scoring_model,
    set_threads,
    tokenize,
    training_examples,
)
from penchant.workflow.sft import training_pairs
from penchant.workflow.status import RunStatus, describe_kill, run_status
from penchant.workflow.stopping import Stopper
from penchant.workflow.token_memory import TokenMemory
from penchant.workflow.watch import Watch, make_watch


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
        part_seconds: Where the time went: `setup` (reading, loading, digests, saving), `tokens`, `reference`,
            `trunk` (outputs of the frozen layers that no store had), `training` (steps, validations, monitors).
            Of a resumed run the steps before count too, and of the rest this process's alone.
    """

    run: Path
    pairs: int
    steps: int
    reference_seconds: float
    train_seconds: float
    first: dict[str, float]
    last: dict[str, float]
    kept_step: int
    part_seconds: dict[str, float]


def train_run(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    allow_changes: Sequence[str] = (),
    limit: int | None = None,
    parallel: ParallelMode = ONE_COPY_EACH,
    memory: TokenMemory | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> TrainResult:
    """Train as configured on the pairs of `data` and write everything to `out`.

    Of several processes (`penchant.processes.together`) all call this, and the first one writes and speaks.

    Args:
        config: The whole configuration.
        data: A file of pairs, or a folder with a `train` split.
        out: The run directory.
        resume: Go on from the newest whole checkpoint in `out`, if there is one.
        allow_changes: Keys of the configuration that may differ from the checkpoint's, such as `engine.threads`.
        limit: Only the first rows of the data.
        parallel: How several processes share the model.
        memory: What other runs of this process have tokenized.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        PenchantError: See `penchant.errors`; nothing is half-written that looks whole.
    """
    began = time.perf_counter()
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    set_threads(config.engine)
    check_optimizer(config.train)
    check_mode(parallel, config)
    device = choose_device(config.engine.device)
    _refuse_unused_reference(config)
    stopper.check()
    pairs, ledger = training_pairs(config, data, limit=limit)
    read = read_held_out(config, data)
    stopper.check()
    asked = _Asked(config, data, out, resume, allow_changes, limit, parallel, memory)
    given = (asked, pairs, ledger, read, device, began)
    if not is_first():
        return _train(*given, RunStatus(out, stopper, silent=True), reporter, stopper)
    with run_lock(out, reporter.note):
        claim(out, resume=resume)
        if resume and (killed := describe_kill(out)):
            reporter.note(killed)
        with run_status(out, stopper, silent=resume) as status:
            return _train(*given, status, reporter, stopper)


@dataclass(frozen=True)
class _Asked:
    """What `train_run` was asked for."""

    config: Config
    data: Path
    out: Path
    resume: bool
    allow_changes: Sequence[str]
    limit: int | None
    parallel: ParallelMode
    memory: TokenMemory | None


def _train(
    asked: _Asked,
    pairs: Sequence[PreferencePair],
    ledger: Ledger,
    read: tuple[list[PreferencePair], Ledger] | None,
    device: str,
    began: float,
    status: RunStatus,
    reporter: Reporter,
    stopper: Stopper,
) -> TrainResult:
    """Train in a run directory that this process, and those started with it, alone work in."""
    config, out = asked.config, asked.out
    parts: dict[str, float] = dict.fromkeys(("setup", "tokens", "reference", "trunk", "training"), 0.0)
    loaded, tokenized, held_out, start, other = _open(
        asked, pairs, ledger, read, device, status, parts, reporter, stopper
    )
    part = choose_trainable(loaded.model, **configured_choice(config.model, config.train.seed))
    reporter.note(describe_ledger(ledger))
    reporter.note(describe_part(part))
    done_by_first(lambda: check_space(out, part, config))  # the first process, which made the directory
    identity = {
        "config": config.resolved(),
        "data": fingerprint(tokenized),
        "model": start,
        **({"validation data": fingerprint(held_out)} if held_out else {}),
        **({"reference": other.weights} if other else {}),
        "precision": choose_precision(config.engine.precision, device),
    }
    checkpoint, identity = _begin(asked, identity, ledger, status, reporter)
    model = scoring_model(
        loaded,
        config.engine,
        max_tokens=config.data.max_tokens,
        trunk_layers=part.frozen_layers,
        reporter=reporter,
        step_tokens=max(config.engine.micro_batch_tokens, 2 * config.data.max_tokens),
    )
    shared = share_model(model, asked.parallel)
    status.begin("scoring the reference")
    started = time.perf_counter()
    layout = layout_of(config, model.precision, tokenized, held_out)
    with contextlib.closing(open_trunk_cache(config.engine, model, layout, reporter)) as cache:
        if other is not None:
            reference = stored(other.scores, other.weights, out)
        else:
            reference = score_reference(config, model, layout, cache, identity, out, reporter, stopper)
        if checkpoint:
            refill(cache, model, layout)
        answers = config.monitor.generate_every is not None  # every layer is asked for again
        if not answers and model.trunk_layers and all(index in cache for index in layout.keys):
            model.rest_trunk()  # nobody will ask for the layers below again
        seconds = time.perf_counter() - started
        parts["trunk"] = cache.computing_seconds
        parts["reference"] += seconds - cache.computing_seconds
        status.begin("training")
        started = time.perf_counter()
        done = _do_steps(
            config, loaded, shared, layout, reference, cache, checkpoint, identity, out, status, reporter, stopper
        )
        in_steps = cache.computing_seconds - parts["trunk"]
        parts["trunk"] = cache.computing_seconds
        parts["training"] = max(done.seconds, time.perf_counter() - started) - in_steps
    # from here on nothing is left to resume: a stop would cost another checkpoint, and the model is as large
    lines = done.lines
    steps = int(lines[-1]["step"])
    kept_step = (done.validator.restore_best() if done.validator else None) or steps
    del reference  # its memory is worth more while the whole model is read again to be saved
    release_memory()
    _save(config, loaded, part, model, out, kept_step)
    parts["setup"] = max(0.0, time.perf_counter() - began - sum(parts.values()))
    result = TrainResult(
        out,
        min(len(tokenized), steps * config.train.batch_pairs),
        steps,
        seconds,
        seconds + done.seconds,
        lines[0],
        lines[-1],
        kept_step,
        parts,
    )
    if is_first():
        facts = _facts(result, part, model) | {"loss_at_reference": loss_at_reference(config.objective)}
        facts |= _validation_facts(done.validator, result, reporter)
        facts |= done.watch.facts(loaded)
        if not checkpoint:  # of a resumed run the total is not known
            facts |= _grade(out, config, len(tokenized), facts, lines, time.perf_counter() - began, reporter)
        write_facts(out, facts)
    wait_for_all()
    return result


def _begin(
    asked: _Asked, identity: dict[str, Any], ledger: Ledger, status: RunStatus, reporter: Reporter
) -> tuple[Path | None, dict[str, Any]]:
    """Find the checkpoint to go on from, and write what the run directory says before the first step.

    Returns the checkpoint, and the identity with what was allowed to change.
    """
    out, config = asked.out, asked.config
    found = told_by_first(look_back(out, resume=asked.resume) if is_first() else None)
    assert found is not None
    identity = take_up(out, found, identity, config.engine, asked.allow_changes, reporter)
    if is_first():
        if not found.path:
            forget_the_end(out)
        if not finished(out):  # a resume of it will be refused, and changes nothing
            status.speak()
        write_config(out, config, identity, asked.parallel, data=asked.data, limit=asked.limit)
        ledger.write(out / "ledger.parquet")
    wait_for_all()
    return found.path, identity


def _save(
    config: Config, loaded: LoadedModel, part: TrainablePart, model: PairModel, out: Path, kept_step: int
) -> None:
    """Write the model. One in shards is gathered into the start model, which the first process reads again."""
    if model.sharded:
        trained = {name: gathered(parameter) for name, parameter in trained_parameters(model.model).items()}
        if is_first():
            loaded = _start(config, "cpu")
            part = choose_trainable(loaded.model, **configured_choice(config.model, config.train.seed))
            put_trained(loaded.model, trained)
    if is_first():
        record = replace(read_run(out), training={})  # which an earlier end of the same run may have left
        save_trained(out, loaded, part, card=model_card(record, name=trained_name(config), steps=kept_step))


@dataclass(frozen=True)
class _Done:
    """All steps' metrics, what they took, and what accompanied them. The optimizer is gone."""

    lines: list[dict[str, float]]
    seconds: float
    validator: Validator | None
    watch: Watch


def _do_steps(
    config: Config,
    loaded: LoadedModel,
    shared: Shared,
    layout: Layout,
    reference: PairLogps | None,
    cache: TrunkCache,
    checkpoint: Path | None,
    identity: dict[str, Any],
    out: Path,
    status: RunStatus,
    reporter: Reporter,
    stopper: Stopper,
) -> _Done:
    """Take the steps that are left, from the checkpoint on if there is one."""
    model = shared.model
    trainer = Trainer(
        config,
        model,
        layout.training_pairs,
        reference,
        make_optimizer(config, model),
        cache,
        prompts=layout.prompts,
        note=reporter.note,
        moving=moving_reference(config, model),
        sharing=shared,
    )
    watch = make_watch(
        config,
        loaded,
        model,
        layout,
        out,
        reporter,
        total_steps=trainer.total_steps,
        check_stop=between_passes(stopper),
    )
    if checkpoint:  # after all that has to know the policy as it began
        resume_from(trainer, checkpoint)
    held_out = HeldOut(layout.pairs, layout.held_out, reference, cache, layout.held_out_counts)
    validator = validator_of(trainer, held_out, checkpoint, out, stopper)
    lines, seconds = run_steps(trainer, validator, watch, out, identity, reporter, stopper, status)
    return _Done(lines, seconds, validator, watch)


def training_tokens(
    config: Config,
    pairs: Sequence[PreferencePair],
    ledger: Ledger,
    chat: ChatFormat,
    *,
    memory: TokenMemory | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> Sequence[TokenizedPair]:
    """Return pairs as a run trains on them: as ids, and as `training_examples` makes them.

    Raises:
        ModelError: The model has no chat template, and is to be trained on one.
        DataError: No pair is left.
    """
    require_chat_format(chat, config)
    tokenized = tokenize(pairs, ledger, chat, config.data, memory=memory, reporter=reporter, stopper=stopper)
    return training_examples(config, tokenized)


def _start(config: Config, device: str) -> LoadedModel:
    path, four_bit = config.model.path, config.model.load_in_4bit
    return load_model(path, architecture=architecture_for(config.model, path), device=device, four_bit=four_bit)


def _open(
    asked: _Asked,
    pairs: Sequence[PreferencePair],
    ledger: Ledger,
    read: tuple[list[PreferencePair], Ledger] | None,
    device: str,
    status: RunStatus,
    parts: dict[str, float],
    reporter: Reporter,
    stopper: Stopper,
) -> tuple[LoadedModel, Sequence[TokenizedPair], Sequence[TokenizedPair], str, OtherReference | None]:
    """The policy, pairs and held-out pairs as it reads them, its digest, and another reference if asked for.

    Adds to `parts` the seconds that these took.
    """
    config, memory = asked.config, asked.memory
    status.begin("loading the model")
    loaded = _start(config, device)
    status.begin("tokenizing")
    started = time.perf_counter()
    tokenized = training_tokens(
        config, pairs, ledger, loaded.chat, memory=memory, reporter=reporter, stopper=stopper
    )
    held_out = tokenize_held_out(read, tokenized, loaded.chat, config, reporter, memory) if read else []
    parts["tokens"] = time.perf_counter() - started
    stopper.check()
    weights = weights_digest(loaded.model)
    if config.model.reference is None:
        return loaded, tokenized, held_out, weights, None
    precision, vocabulary = choose_precision(config.engine.precision, device), loaded.tokenizer.get_vocab()
    layout = layout_of(config, precision, tokenized, held_out)
    del loaded  # one model in memory at a time
    status.begin("scoring the reference")
    started = time.perf_counter()
    chunks = [*layout.chunks, *layout.held_out]
    other = score_other_reference(config, layout.pairs, chunks, layout.keys, vocabulary, reporter, stopper)
    parts["reference"] = time.perf_counter() - started
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
        "part_seconds": result.part_seconds,
        "peak_memory_bytes": peak_memory_bytes(model.device),
        "trained_parameters": part.trained,
        "parameters": part.total,
        "frozen_layers": part.frozen_layers,
        "prefix_sharing": model.prefix_sharing,
        "precision": model.precision,
    }
