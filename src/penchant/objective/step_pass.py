"""A pass over a whole step without gradient, for the losses that compare its pairs with one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from penchant.batching.pair_batch import PairBatch
from penchant.config import ObjectiveConfig
from penchant.objective.even_passes import evenly
from penchant.objective.logps import PairLogps, joined_logps, of_all_processes, pair_logps
from penchant.objective.loss_table import uses_means
from penchant.objective.pair_facts import PairFacts, step_statistics
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache, trunk_output
from penchant.processes import joined, rank


@torch.no_grad()
def step_facts(
    config: ObjectiveConfig,
    model: PairModel,
    parts: Sequence[tuple[Sequence[int], PairBatch]],
    reference: PairLogps | None,
    cache: TrunkCache,
    facts: PairFacts,
    pairs: Sequence[int],
    passes: int | None = None,
) -> PairFacts:
    """Return the facts of a step's pairs with what only the whole step, on all processes, can tell.

    Args:
        config: Which losses want it.
        model: The policy.
        parts: This process's micro-batches of the step: which pairs, and their tensors.
        reference: Log-probabilities of their pairs under the reference, in the order of the parts.
        cache: Of the frozen layers' outputs.
        facts: What the rows say.
        pairs: How many pairs of the step each process has.
        passes: How many micro-batches the process has that has most, see `evenly`.
    """
    logps: list[PairLogps] = []
    agreement: list[Tensor] = []
    for (indices, batch), wanted in evenly(model, parts, passes):
        outputs = trunk_output(model, batch, indices, cache)
        scores = model(batch, outputs)
        agreements = model.agreement(batch, outputs) if config.wpo else None
        if wanted:
            logps.append(pair_logps(scores, batch, config.ld_alpha))
        if wanted and agreements is not None:
            means = pair_logps(agreements, batch).mean()
            agreement.append(torch.stack([means.chosen, means.rejected], dim=1))
    policy = joined_logps(logps)
    if uses_means(config):
        policy, reference = policy.mean(), None if reference is None else reference.mean()
    found = step_statistics(
        config,
        of_all_processes(policy, pairs),
        None if reference is None else of_all_processes(reference, pairs),
        joined(torch.cat(agreement), pairs) if agreement else None,
    )
    own = slice(sum(pairs[: rank()]), sum(pairs[: rank() + 1]))
    return replace(facts, statistics={name: values[own] for name, values in found.items()})
