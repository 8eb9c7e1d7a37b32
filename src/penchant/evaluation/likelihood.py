"""How likely a model finds good answers: the held-out loss per token before and after, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penchant.evaluation.stats import cluster_bootstrap, clustered, paired_bootstrap_difference
from penchant.objective.logps import PairLogps


def likelihood_figures(policy: PairLogps, reference: PairLogps, clusters: Sequence[str]) -> dict[str, Any]:
    """Return the figures of `docs/run-directory.md` on examples to imitate, which are the chosen sides.

    `token_loss_*` is the mean of -log p over all scored tokens of all examples, nats: what the loss sft minimises
    by default. `token_loss_change` is policy minus reference on the same tokens, so below zero is better.
    Intervals are 95 %, clustered by question; with a single question there are none.

    Args:
        policy: Sums of the policy, nats, and numbers of scored tokens.
        reference: The same of the model that it started from.
        clusters: Which question each example belongs to.
    """
    tokens = policy.chosen_tokens.double().numpy()
    losses = {
        who: -logps.chosen.double().numpy() / tokens
        for who, logps in (("reference", reference), ("policy", policy))
    }
    figures: dict[str, Any] = {
        "test_examples": len(clusters),
        "test_example_clusters": len(set(clusters)),
        "test_example_tokens": int(tokens.sum()),
    }
    for who, loss in losses.items():
        figures[f"token_loss_{who}"] = float(np.average(loss, weights=tokens))
    figures["token_loss_change"] = figures["token_loss_policy"] - figures["token_loss_reference"]
    better = (losses["policy"] < losses["reference"]).astype(np.float64)
    figures["examples_better_fraction"] = float(better.mean())
    if len(set(clusters)) == 1:
        return figures
    intervals = {
        f"token_loss_{who}": cluster_bootstrap(loss, clusters, weights=tokens) for who, loss in losses.items()
    }
    intervals["token_loss_change"] = paired_bootstrap_difference(
        losses["policy"], losses["reference"], clusters, weights=tokens
    )
    intervals["examples_better_fraction"] = clustered(better, clusters)
    return figures | {f"{name}_interval": [found.low, found.high] for name, found in intervals.items()}
