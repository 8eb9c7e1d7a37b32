"""Which pairs share a pass, and the reference's log-probabilities of them, computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.batching.packing import first_epoch_chunks, number_prompts
from penchant.batching.pair_batch import pair_group
from penchant.config import Config, EngineConfig
from penchant.data.atomic import write_json
from penchant.models.bundled import cache_directory
from penchant.models.precision import Precision
from penchant.objective.content_address import pair_keys, store_name, trunk_facts
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import needs_reference
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import Reference, reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.objective.trunk_store import TrunkStore
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
    chunks: list[list[int]]  # training pairs, in the first epoch
    held_out: list[list[int]]
    keys: dict[int, bytes]


def layout_of(
    config: Config, precision: Precision, pairs: Sequence[TokenizedPair], held_out: Sequence[TokenizedPair]
) -> Layout:
    """Return the layout of a run's training pairs and of those held out."""
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
    return Layout(both, pairs, held_out, prompts, chunks, others, pair_keys(both, [*chunks, *others], precision))


def open_trunk_cache(engine: EngineConfig, model: PairModel, layout: Layout, reporter: Reporter) -> TrunkCache:
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
    write_json(out / "reference" / "store.json", {**reference.facts(), "weights": weights})
    return reference.logps
