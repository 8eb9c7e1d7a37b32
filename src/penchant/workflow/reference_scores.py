"""Which pairs share a pass, and the reference's log-probabilities of them, computed once and kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.batching.packing import first_epoch_chunks, number_prompts, share_out
from penchant.batching.pair_batch import pair_group
from penchant.config import Config, EngineConfig
from penchant.data.atomic import write_json
from penchant.errors import UsageError
from penchant.models.bundled import cache_directory
from penchant.models.precision import Precision
from penchant.objective.content_address import pair_keys, store_name, trunk_facts
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import needs_reference
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import Reference, reference_logps
from penchant.objective.trunk_cache import TrunkCache, trunk_output
from penchant.objective.trunk_store import TrunkStore
from penchant.processes import is_first, rank, world_size
from penchant.training.schedule import total_steps
from penchant.training.validation import chunks_by_length
from penchant.types import TokenizedPair
from penchant.workflow.held_out import one_after_the_other
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper, stoppable_progress


@dataclass(frozen=True)
class Layout:
    """Numbers of the prompts, which pairs share a pass, and each pair's key in the stores.

    Held-out pairs are numbered after the training pairs, so both have one store, one cache and one reference.
    """

    pairs: Sequence[TokenizedPair]
    training_pairs: Sequence[TokenizedPair]
    held_out_pairs: Sequence[TokenizedPair]
    prompts: list[int] | None
    chunks: list[list[int]]  # training pairs that this process has in the first epoch
    held_out: list[list[int]]  # likewise
    held_out_counts: list[int]  # held-out pairs of each process
    keys: dict[int, bytes]  # of all pairs of all processes


def layout_of(
    config: Config, precision: Precision, pairs: Sequence[TokenizedPair], held_out: Sequence[TokenizedPair]
) -> Layout:
    """Return the layout of a run's training pairs and of those held out."""
    by_prompt = config.train.order == "prompts"
    prompts = number_prompts(pair.prompt_ids for pair in pairs) if by_prompt else None
    chunks = first_epoch_chunks(  # of every process
        [pair_group(pair).num_packed_tokens for pair in pairs],
        steps=total_steps(config.train, len(pairs)),
        batch=config.train.batch_pairs,
        max_tokens=config.engine.micro_batch_tokens,
        seed=config.train.seed,
        prompts=prompts,
        ranks=world_size(),
        trl=config.train.order == "trl",
    )
    parts = chunks_by_length(held_out, config.engine.micro_batch_tokens)
    others = [[len(pairs) + place for place in part] for part in parts]
    both, own = one_after_the_other(pairs, held_out), rank()
    shares = _dealt(both, others)
    keys = pair_keys(both, [*itertools.chain(*chunks, *shares)], precision)
    return Layout(
        both, pairs, held_out, prompts, chunks[own], shares[own], [sum(map(len, s)) for s in shares], keys
    )


def _dealt(pairs: Sequence[TokenizedPair], chunks: list[list[int]]) -> list[list[list[int]]]:
    """Each process's held-out passes; pairs are taken one by one where there are fewer passes than processes.

    Raises:
        UsageError: There are fewer pairs than processes.
    """
    if chunks and len(chunks) < world_size():
        chunks = [[index] for chunk in chunks for index in chunk]
        if len(chunks) < world_size():
            raise UsageError(
                f"{len(chunks)} held-out pairs cannot be shared by {world_size()} processes",
                fix="Give more of them, or set train.evaluate_every=null.",
            )
    tokens = [sum(pair_group(pairs[index]).num_packed_tokens for index in chunk) for chunk in chunks]
    return [[chunks[place] for place in share] for share in share_out(tokens, world_size())]


def open_trunk_cache(engine: EngineConfig, model: PairModel, layout: Layout, reporter: Reporter) -> TrunkCache:
    """A cache in memory and, on a CPU, on disk: an accelerator computes these as fast as a disk reads them."""
    if model.trunk_layers == 0:
        return TrunkCache(0)
    if engine.trunk_cache_disk_bytes == 0 or model.sharded or not model.device.startswith("cpu"):
        return TrunkCache(engine.trunk_cache_bytes)
    store = TrunkStore(
        cache_directory() / "trunk",
        store_name(trunk_facts(model)),
        keys=layout.keys,
        max_bytes=engine.trunk_cache_disk_bytes,
        note=reporter.note,
    )
    return TrunkCache(engine.trunk_cache_bytes, store)


def refill(cache: TrunkCache, model: PairModel, layout: Layout) -> None:
    """Compute what the memory of a run that was interrupted had held, in the passes in which it was computed then.

    Outputs of the frozen layers differ in their last bits with the company in which they are computed. On disk
    they outlast the run; what it kept in memory is computed again as it was, so that it goes on bit for bit.
    """
    for chunk in [*layout.chunks, *layout.held_out] if model.trunk_layers and cache.max_bytes else []:
        batch = model.collate([pair_group(layout.pairs[index]) for index in chunk])
        trunk_output(model, batch, chunk, cache)


def score_reference(
    config: Config,
    model: PairModel,
    layout: Layout,
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
    return stored(reference, identity["model"], out)


def stored(reference: Reference, weights: str, out: Path) -> PairLogps | None:
    """The log-probabilities, once the run directory says where they are from."""
    if is_first():
        write_json(out / "reference" / "store.json", {**reference.facts(), "weights": weights})
    return reference.logps
