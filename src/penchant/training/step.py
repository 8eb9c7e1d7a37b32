"""The gradients of one step: which pairs, in which micro-batches, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from penchant.batching.packing import in_last_epoch, micro_batches, step_indices
from penchant.batching.pair_batch import PairBatch, pair_group
from penchant.config import Config
from penchant.errors import UsageError
from penchant.models.memory import is_out_of_memory, release_memory
from penchant.models.precision import compute_in
from penchant.objective.even_passes import evenly
from penchant.objective.head import PairLosses
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import pair_objective
from penchant.objective.metrics import StepSums
from penchant.objective.moving_reference import MovingReference
from penchant.objective.pair_facts import PairFacts, is_coupled, pair_facts
from penchant.objective.pair_model import PairModel
from penchant.objective.step_pass import step_facts
from penchant.objective.trunk_cache import TrunkCache, trunk_output
from penchant.processes import rank, world_size
from penchant.tokens.store import Mapped
from penchant.training.parallel import Shared
from penchant.training.schedule import total_steps
from penchant.types import TokenizedPair

Part = TypeVar("Part")


@dataclass
class Trainer:
    """All that a step needs. Nothing else has state.

    Attributes:
        config: The run's configuration.
        model: The policy.
        pairs: Training pairs.
        reference: Their log-probabilities under the reference; None when the loss needs none.
        optimizer: Over the trained parameters, see `penchant.training.optimizer`.
        trunk_cache: Outputs of the frozen layers, as far as they were kept.
        start_step: Optimizer steps already done, when resumed.
        prompts: The number of each pair's prompt, when prompts are what is shuffled.
        note: Hears one line about whatever had to be changed on the way.
        moving: The reference of the steps, when it moves; `reference` then is where it began.
        on_pairs: Hears a step's number (from 1), its pairs and their own figures, before its means are told.
        sharing: The model as several processes share it; None when there is one.
        check_stop: Called after every micro-batch; what it raises ends the training between two updates.
        interrupted: Whether the step under way will not be finished, so that the one before has to be saved.
    """

    config: Config
    model: PairModel
    pairs: Sequence[TokenizedPair]
    reference: PairLogps | None
    optimizer: torch.optim.Optimizer
    trunk_cache: TrunkCache
    start_step: int = 0
    prompts: Sequence[int] | None = None
    note: Callable[[str], None] = lambda _: None
    moving: MovingReference | None = None
    on_pairs: Callable[[int, Sequence[int], dict[str, list[float]]], None] = lambda *_: None
    sharing: Shared | None = None
    check_stop: Callable[[], None] = lambda: None
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.micro_batch_tokens = self.config.engine.micro_batch_tokens
        train = self.config.train
        if train.order == "trl" and 0 < len(self.pairs) % train.batch_pairs < world_size():
            raise UsageError(
                f"the last step of an epoch has {len(self.pairs) % train.batch_pairs} pairs, fewer than processes",
                where="train.order",
                fix='Leave out a few rows, or take train.order "pairs", whose steps are all full.',
            )

    @property
    def shared(self) -> Shared:
        """The model as the processes of the run share it."""
        return self.sharing or Shared(self.model)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return total_steps(self.config.train, len(self.pairs))


@dataclass(frozen=True)
class Prepared:
    """A step's micro-batches on this process: which pairs, and their tensors.

    Attributes:
        step: From 0.
        indices: The step's pairs on all processes.
        parts: This process's micro-batches.
        orders: Every process's pairs, in the order of its micro-batches.
        passes: As many micro-batches as the process has that has most.
        micro_batch_tokens: Most tokens in one of them.
        weight: Of each pair in the step's loss, however the step is split.
    """

    step: int
    indices: list[int]
    parts: list[tuple[list[int], PairBatch]]
    orders: list[list[int]]
    passes: int
    micro_batch_tokens: int
    weight: float

    @property
    def order(self) -> list[int]:
        """This process's pairs in the order of its micro-batches."""
        return self.orders[rank()]

    @property
    def pairs(self) -> list[int]:
        """How many pairs each process has."""
        return [len(order) for order in self.orders]

    @property
    def whole_order(self) -> list[int]:
        """The pairs of all processes, as what is told of each of them is ordered."""
        return [index for order in self.orders for index in order]


def prepare(trainer: Trainer, step: int) -> Prepared:
    """Return a step's micro-batches: any process at any time gets the same."""
    count, order = len(trainer.pairs), trainer.config.train
    indices = step_indices(
        step,
        count=count,
        batch=order.batch_pairs,
        seed=order.seed,
        prompts=trainer.prompts,
        trl=order.order == "trl",
    )
    groups = [pair_group(trainer.pairs[index]) for index in indices]
    tokens = trainer.micro_batch_tokens
    prompts = None if trainer.prompts is None else [trainer.prompts[index] for index in indices]
    places = micro_batches([group.num_packed_tokens for group in groups], tokens, world_size(), prompts)
    parts = [
        ([indices[place] for place in part], trainer.model.collate([groups[place] for place in part]))
        for part in places[rank()]
    ]
    orders = [[indices[place] for part in own for place in part] for own in places]
    by_token = trainer.config.objective.logps == "tokens"
    counted = sum(trainer.pairs[index].num_scored[0] for index in indices) if by_token else len(indices)
    return Prepared(step, indices, parts, orders, max(map(len, places)), tokens, 1 / counted)


def step_gradients(trainer: Trainer, prepared: Prepared) -> StepSums:
    """Add up the gradients and figures of a step, those of all processes.

    Where memory does not suffice, one process alone does it once more in smaller micro-batches. Several could not
    agree on that in time: the others wait in the middle of their own.

    Raises:
        UsageError: Not even a single pair fits into memory, or one of several processes has too little.
    """
    step = prepared.step
    while True:
        if prepared.micro_batch_tokens != trainer.micro_batch_tokens:  # prepared before they had to shrink
            prepared = prepare(trainer, step)
        try:
            sums = _add_up(trainer, prepared)
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if world_size() > 1:
                raise UsageError(
                    f"step {step + 1}: process {rank()} has too little memory for its micro-batches",
                    fix="Lower engine.micro_batch_tokens, which changes no number, or take --parallel fsdp.",
                ) from error
        _shrink(trainer, prepared)  # outside of `except`, where the error would hold on to what is to be freed
    sums.exchange(prepared.pairs)
    train, count = trainer.config.train, len(trainer.pairs)
    course = {"steps": trainer.total_steps, "count": count, "batch": train.batch_pairs}
    if in_last_epoch(step, **course, trl=train.order == "trl"):
        trainer.trunk_cache.drop(prepared.indices)
    return sums


def _add_up(trainer: Trainer, prepared: Prepared) -> StepSums:
    config, model = trainer.config.objective, trainer.model
    whole = _step_reference(trainer, prepared)
    facts = facts_of_step(trainer, prepared, whole)
    sums, done = StepSums(), 0
    for number, (indices, batch) in enumerate(prepared.parts, start=1):
        places = torch.arange(done, done + len(indices), device=model.device)
        reference = None if whole is None else whole.select(places)
        objective = pair_objective(config, reference, facts.select(places))
        outputs = trunk_output(model, batch, indices, trainer.trunk_cache)
        with trainer.shared.micro_step(last=number == len(prepared.parts)) as run:
            result: PairLosses = run(batch, outputs, objective)
            with compute_in(model.precision, model.device):
                result.total.backward()
        losses = result.losses
        if config.pair_weights:  # what is logged is what is minimised
            losses = losses * (objective.weights / prepared.weight)
        labels = None if facts.desirable is None else facts.desirable[places]
        sums.add(losses, result.logps, reference, config=config, tokens=batch.num_tokens, desirable=labels)
        done += len(indices)
        trainer.check_stop()
    _keep_company(trainer, prepared)
    return sums


def _keep_company(trainer: Trainer, prepared: Prepared) -> None:
    """Run the sharded model as often as the process that has most micro-batches, to no effect: all or none can."""
    model = trainer.model
    for (indices, batch), done in evenly(model, prepared.parts, prepared.passes):
        if not done:
            outputs = trunk_output(model, batch, indices, trainer.trunk_cache)
            with compute_in(model.precision, model.device):
                (model(batch, outputs).sum() * 0.0).backward()


def _step_reference(trainer: Trainer, prepared: Prepared) -> PairLogps | None:
    """The reference's log-probabilities of the step's pairs, in the order of its micro-batches."""
    if trainer.moving is not None:
        parts = checked(trainer.check_stop, prepared.parts)
        return trainer.moving.logps(parts, trainer.trunk_cache, prepared.passes)
    return stored_reference(trainer, prepared)


def facts_of_step(trainer: Trainer, prepared: Prepared, reference: PairLogps | None) -> PairFacts:
    """Return what is known of the step's pairs, in the order of its micro-batches."""
    config, model, parts, order = trainer.config.objective, trainer.model, prepared.parts, prepared.order
    facts = pair_facts(config, [trainer.pairs[index] for index in order], prepared.weight, model.device)
    if not is_coupled(config):
        return facts
    parts = checked(trainer.check_stop, parts)
    return step_facts(config, model, parts, reference, trainer.trunk_cache, facts, prepared.pairs, prepared.passes)


def checked(check: Callable[[], None], parts: Sequence[Part]) -> Sequence[Part]:
    """Return micro-batches, or anything else, with a call of `check` before each that is asked for."""

    def one(part: Part) -> Part:
        check()
        return part

    return Mapped(one, parts)


def _shrink(trainer: Trainer, prepared: Prepared) -> None:
    """Halve the micro-batches: gradients do not depend on how a step is split, so the course is the same.

    Raises:
        UsageError: Each of them is a single pair already.
    """
    trainer.optimizer.zero_grad(set_to_none=True)
    release_memory()
    largest = max(batch.num_tokens for _, batch in prepared.parts)
    if all(len(indices) == 1 for indices, _ in prepared.parts):
        raise UsageError(
            f"step {prepared.step + 1}: not even one pair of {largest} tokens fits into memory",
            fix="Lower data.max_tokens, train fewer layers (model.last_layers) or adapters (model.lora_rank).",
        )
    trainer.micro_batch_tokens = max(1, min(trainer.micro_batch_tokens, largest) // 2)
    trainer.note(
        f"Out of memory at step {prepared.step + 1}: micro-batches have at most {trainer.micro_batch_tokens} "
        "tokens from here on. No number changes by it."
    )


def stored_reference(trainer: Trainer, prepared: Prepared) -> PairLogps | None:
    """Return the kept log-probabilities of a step's pairs under the reference, in its micro-batches' order."""
    if trainer.reference is None:
        return None
    return trainer.reference.select(torch.tensor(prepared.order), trainer.model.device)
