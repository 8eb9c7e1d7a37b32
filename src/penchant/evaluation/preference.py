"""Whether a model prefers what people chose: accuracies, rewards and margins with clustered intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from penchant.evaluation.stats import cluster_bootstrap, clustered, paired_bootstrap_difference
from penchant.objective.logps import PairLogps
from penchant.objective.losses import margin
from penchant.objective.metrics import wins


def preference_figures(
    policy: PairLogps, reference: PairLogps, clusters: Sequence[str], *, beta: float
) -> dict[str, Any]:
    """Return the figures of `docs/run-directory.md` that need only log-probabilities.

    Accuracies are judged by one rule for both models: chosen log-probability above rejected, a tie one half.
    `preference_accuracy_*` compares means per token, `preference_accuracy_sum_*` sums. Intervals are 95 %,
    clustered by question.

    Args:
        policy: Sums of the policy, nats.
        reference: The same of the reference.
        clusters: Which question each pair belongs to.
        beta: Turns log-ratios into rewards.
    """
    figures: dict[str, Any] = {"test_pairs": len(clusters), "test_clusters": len(set(clusters))}
    won: dict[str, np.ndarray] = {}
    for who, logps in (("reference", reference), ("policy", policy)):
        for kind, values in (("", logps.mean()), ("sum_", logps)):
            won[kind + who] = _array(wins(values.chosen - values.rejected))
            _add(figures, f"preference_accuracy_{kind}{who}", won[kind + who], clusters)
            figures[f"preference_ties_{kind}{who}"] = int((won[kind + who] == _TIE).sum())
    rewards = beta * margin(policy, reference)
    _add(figures, "reward_accuracy", _array(wins(rewards)), clusters)
    figures["reward_ties"] = int((rewards == 0).sum())
    figures["reward_margin"] = float(_array(rewards).mean())
    _add(figures, "chosen_logps_fell_fraction", _array(policy.chosen < reference.chosen), clusters)
    if len(set(clusters)) > 1:
        spread = cluster_bootstrap(_array(rewards), clusters)
        figures["reward_margin_interval"] = [spread.low, spread.high]
        gain = paired_bootstrap_difference(won["policy"], won["reference"], clusters)
        figures["preference_accuracy_gain"] = gain.value
        figures["preference_accuracy_gain_interval"] = [gain.low, gain.high]
    return figures


_TIE = 0.5


def _add(figures: dict[str, Any], name: str, values: np.ndarray, clusters: Sequence[str]) -> None:
    interval = clustered(values, clusters)
    figures[name] = float(values.mean())
    figures[f"{name}_interval"] = [interval.low, interval.high]


def _array(values: Tensor) -> np.ndarray:
    return values.double().numpy()
