"""A pass over a whole step without gradient, for the losses that compare its pairs with one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from penchant.batching.pair_batch import PairBatch
from penchant.config import ObjectiveConfig
from penchant.objective.logps import PairLogps, joined_logps, pair_logps
from penchant.objective.loss_table import uses_means
from penchant.objective.pair_facts import PairFacts, step_statistics
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache, trunk_output


@torch.no_grad()
def step_facts(
    config: ObjectiveConfig,
    model: PairModel,
    parts: Sequence[tuple[Sequence[int], PairBatch]],
    reference: PairLogps | None,
    cache: TrunkCache,
    facts: PairFacts,
) -> PairFacts:
    """Return the facts of a step's pairs with what only the whole step can tell.

    Args:
        config: Which losses want it.
        model: The policy.
        parts: The step's micro-batches: which pairs, and their tensors.
        reference: Log-probabilities of all pairs of the step under the reference, in the order of the parts.
        cache: Of the frozen layers' outputs.
        facts: What the rows say.
    """
    logps: list[PairLogps] = []
    agreement: list[Tensor] = []
    for indices, batch in parts:
        outputs = trunk_output(model, batch, indices, cache)
        logps.append(pair_logps(model(batch, outputs), batch, config.ld_alpha))
        if config.wpo:
            means = pair_logps(model.agreement(batch, outputs), batch).mean()
            agreement.append(torch.stack([means.chosen, means.rejected], dim=1))
    policy = joined_logps(logps)
    if uses_means(config):
        policy, reference = policy.mean(), None if reference is None else reference.mean()
    found = step_statistics(config, policy, reference, torch.cat(agreement) if agreement else None)
    return replace(facts, statistics=found)
