"""How much work a run is: its micro-batches, how often each is passed through the model, and what it validates on.

Nothing here is measured, and nothing is computed on a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.batching.packing import first_epoch_chunks, number_prompts
from penchant.batching.pair_batch import pair_group
from penchant.config import Config, ObjectiveConfig
from penchant.data.ledger import Ledger
from penchant.errors import ModelError
from penchant.objective.pair_facts import is_coupled
from penchant.training.cost import Load, micro_batch_load
from penchant.training.schedule import total_steps
from penchant.training.validation import chunks_by_length
from penchant.types import PreferencePair, TokenizedPair
from penchant.workflow.held_out import read_held_out, tokenize_held_out
from penchant.workflow.inspect import load_chat
from penchant.workflow.plan_start import Start
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import training_examples
from penchant.workflow.sft import training_pairs
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import training_tokens

_ASSUMED_PAIRS = 1000


@dataclass(frozen=True)
class Examples:
    """What a run trains and validates on.

    Attributes:
        trained: As ids, and as the objective takes them.
        held_out: Likewise; empty without validation.
        notes: What of them is assumed.
    """

    trained: Sequence[TokenizedPair]
    held_out: Sequence[TokenizedPair]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """A run in passes.

    Attributes:
        pairs: Training pairs.
        chunks: Which of them share a pass in the first epoch.
        loads: Of these passes.
        steps: Optimizer steps of the run.
        epoch_steps: Of the first epoch.
        held_out: Loads of the passes of one validation.
        passes: Of a step's pairs without gradient, before those with one.
        validations: How many there are.
        validation_passes: Of the held-out pairs in each.
    """

    pairs: Sequence[TokenizedPair]
    chunks: list[list[int]]
    loads: list[Load]
    steps: int
    epoch_steps: int
    held_out: list[Load]
    passes: int
    validations: int
    validation_passes: int

    @property
    def tokens(self) -> int:
        """Tokens of the training pairs and of the held-out ones."""
        return sum(load.tokens for load in [*self.loads, *self.held_out])

    @property
    def largest(self) -> list[TokenizedPair]:
        """The pairs of the micro-batch that has most tokens."""
        place = max(range(len(self.loads)), key=lambda at: self.loads[at].tokens)
        return [self.pairs[index] for index in self.chunks[place]]


def read_examples_of(
    config: Config, data: Path | None, start: Start, *, limit: int | None, reporter: Reporter, stopper: Stopper
) -> Examples:
    """Return what a run trains and validates on, or what has to be assumed of it, with a note that says so.

    Args:
        config: Of the run.
        data: Its data; None: everything is assumed.
        start: Where it begins. Where its weights are missing its tokenizer may be missing too.
        limit: Only the first rows of the data.
        reporter: Hears notes and progress.
        stopper: Asked now and then whether to stop.

    Raises:
        PenchantError: What the run itself would end with.
    """
    if data is None:
        return _assumed(config, None, start, "No data was given", "Give --data for the run's own lengths.")
    rows, ledger = training_pairs(config, data, limit=limit)
    read = read_held_out(config, data)
    try:
        chat = load_chat(start.tokenizer)
    except ModelError:
        if start.whole:
            raise
        return _assumed(config, len(rows), start, "The tokenizer is not here", "With it lengths will be known.")
    trained = training_tokens(config, rows, ledger, chat, reporter=reporter, stopper=stopper)
    held_out = _held_out(config, read, trained, start, reporter)
    return Examples(trained, held_out)


def _held_out(
    config: Config,
    read: tuple[list[PreferencePair], Ledger] | None,
    trained: Sequence[TokenizedPair],
    start: Start,
    reporter: Reporter,
) -> Sequence[TokenizedPair]:
    return tokenize_held_out(read, trained, load_chat(start.tokenizer), config, reporter) if read else []


def _assumed(config: Config, rows: int | None, start: Start, why: str, fix: str) -> Examples:
    """Examples as long as the data allows."""
    steps, count = config.train.max_steps, rows or _ASSUMED_PAIRS
    if steps and rows is None:
        count = min(count, steps * config.train.batch_pairs)
    trained = training_examples(config, _longest_pairs(config, count, start.source.vocab_size))
    held_out: Sequence[TokenizedPair] = []
    also = ""
    if config.train.evaluate_every is not None:
        given = config.train.evaluate_pairs
        held_out = training_examples(config, _longest_pairs(config, given, start.source.vocab_size))
        also = f", and {given} held-out ones (train.evaluate_pairs)"
    what = "pairs are assumed, each with a prompt and two responses"
    if config.objective.loss == "sft":
        what = "examples are assumed, each with a prompt and a response"
    note = f"{why}: {count} {what} of half of data.max_tokens ({config.data.max_tokens}){also}. {fix}"
    return Examples(trained, held_out, (note,))


def _longest_pairs(config: Config, count: int, vocabulary: int) -> list[TokenizedPair]:
    """Pairs as long as the data allows: half prompt, half response."""
    half = config.data.max_tokens // 2

    def ids(seed: int) -> tuple[int, ...]:
        return tuple((seed * 7919 + place * 31) % vocabulary for place in range(half))

    imitated = config.objective.loss == "sft"
    return [
        TokenizedPair(f"assumed-{i}", ids(3 * i), ids(3 * i + 1), () if imitated else ids(3 * i + 2))
        for i in range(count)
    ]


def work_of(config: Config, examples: Examples, *, packed: bool) -> Work:
    """Return the passes of a run.

    Args:
        config: Of the run.
        examples: What it trains and validates on.
        packed: Whether prompts are shared between responses.
    """
    pairs, tokens = examples.trained, config.engine.micro_batch_tokens
    groups = [pair_group(pair) for pair in pairs]
    steps = total_steps(config.train, len(pairs))
    [chunks] = first_epoch_chunks(
        [group.num_packed_tokens for group in groups],
        steps=steps,
        batch=config.train.batch_pairs,
        max_tokens=tokens,
        seed=config.train.seed,
        prompts=number_prompts(pair.prompt_ids for pair in pairs) if config.train.order == "prompts" else None,
        trl=config.train.order == "trl",
    )
    held_out = [
        micro_batch_load([pair_group(examples.held_out[index]) for index in chunk], packed=packed)
        for chunk in (chunks_by_length(examples.held_out, tokens) if examples.held_out else ())
    ]
    before = statistics_passes(config.objective)
    return Work(
        pairs=pairs,
        chunks=chunks,
        loads=[micro_batch_load([groups[index] for index in chunk], packed=packed) for chunk in chunks],
        steps=steps,
        epoch_steps=min(steps, math.ceil(len(pairs) / config.train.batch_pairs)),
        held_out=held_out,
        passes=before + (config.objective.reference_every is not None),
        validations=validations(config, steps),
        validation_passes=1 + before,
    )


def statistics_passes(objective: ObjectiveConfig) -> int:
    """Return how often a step's pairs are passed through the policy to learn what only the whole step can tell.

    Once for losses that compare the pairs of a step, and for WPO once more: see `penchant.objective.step_pass`.
    """
    return is_coupled(objective) + objective.wpo


def validations(config: Config, steps: int) -> int:
    """Return how often a run of so many steps validates, one after the last step included; no early stop."""
    every = config.train.evaluate_every
    return 0 if every is None else math.ceil(steps / every)
