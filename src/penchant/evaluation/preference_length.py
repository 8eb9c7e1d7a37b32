"""Whether a model prefers what people chose, or only what is longer (or shorter).

Three things are judged by one rule, a margin above zero (a tie counts one half): the implicit reward of the policy
against the reference, and the mean log-probability per token under each of the two. Lengths are scored tokens.

* **The longer response wins**: how often that rule alone finds the chosen response, and by how much each judgement
  is better on the same pairs.
* **Length-matched**: the accuracy on pairs whose lengths differ by at most a tenth of the longer one.
* **Length-controlled**: all pairs, by a regression of being right on how much longer the chosen response is,

      P(right) = sigmoid(a + b tanh(difference / spread)),      spread = root mean square of the differences

  read at equal length: sigmoid(a). This is what length-controlled AlpacaEval does with a judge's verdicts (Dubois
  et al. 2024, arXiv:2404.04475), without its term for single prompts. b > 0: more often right where the
  chosen response is the longer one. Both coefficients have a normal prior of standard deviation 3, so that they
  stay finite where every pair is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.logistic import bootstrap_logistic, fit_logistic, percentiles, sigmoid
from penchant.evaluation.stats import Interval, clustered, paired_bootstrap_difference
from penchant.objective.logps import PairLogps
from penchant.objective.losses import margin
from penchant.objective.metrics import wins

MATCHED_WITHIN = 0.1
"""Lengths are matched when they differ by at most this share of the longer one."""
_PRIOR_DEVIATION = 3.0


def length_figures(policy: PairLogps, reference: PairLogps, clusters: Sequence[str]) -> dict[str, Any]:
    """Return the figures of `docs/evaluation-preference.md` about length.

    Fractions in [0, 1] with 95 % intervals, clustered by question. Those of matched pairs are there when there is
    such a pair; intervals of differences and of length-controlled figures when there are two questions.

    Args:
        policy: Sums of the policy, nats.
        reference: The same of the reference.
        clusters: Which question each pair belongs to.
    """
    chosen, rejected = (tokens.double() for tokens in (policy.chosen_tokens, policy.rejected_tokens))
    longer = wins(chosen - rejected).numpy()
    lengths = chosen.numpy(), rejected.numpy()
    matched = matched_lengths(*lengths)
    figures: dict[str, Any] = {"longer_wins_ties": int((longer == _TIE).sum())}
    _add(figures, "longer_wins_accuracy", clustered(longer, clusters))
    figures |= {"length_matched_within": MATCHED_WITHIN, "length_matched_pairs": int(matched.sum())}
    several = len(set(clusters)) > 1
    for name, right in _judgements(policy, reference).items():
        over = name.format("_over_longer_wins")
        figures[over] = float((right - longer).mean())
        if several:
            _add(figures, over, paired_bootstrap_difference(right, longer, clusters))
        if matched.any():
            some = [cluster for cluster, one in zip(clusters, matched, strict=True) if one]
            _add(figures, name.format("_length_matched"), clustered(right[matched], some))
        for kind, found in _length_controlled(right, *lengths, clusters).items():
            figures[name.format(kind)] = found.value
            if several:
                _add(figures, name.format(kind), found)
    return figures


def matched_lengths(chosen: NDArray[np.float64], rejected: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pairs have lengths that differ by at most `MATCHED_WITHIN` of the longer one."""
    return np.abs(chosen - rejected) <= MATCHED_WITHIN * np.maximum(chosen, rejected)


def length_features(chosen: NDArray[np.float64], rejected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the features of the regression, shape (pairs, 2): one, and tanh(difference / spread)."""
    difference = chosen - rejected
    spread = float(np.sqrt(np.mean(difference**2))) or 1.0
    return np.stack([np.ones_like(difference), np.tanh(difference / spread)], axis=1)


_TIE = 0.5


def _judgements(policy: PairLogps, reference: PairLogps) -> dict[str, NDArray[np.float64]]:
    """For each judgement whether it is right about each pair; its name has a place for the kind of figure."""
    means = {"reference": reference.mean(), "policy": policy.mean()}
    return {
        "reward_accuracy{}": wins(margin(policy, reference)).numpy(),
        **{
            f"preference_accuracy{{}}_{who}": wins(logps.chosen - logps.rejected).numpy()
            for who, logps in means.items()
        },
    }


def _length_controlled(
    right: NDArray[np.float64],
    chosen: NDArray[np.float64],
    rejected: NDArray[np.float64],
    clusters: Sequence[str],
) -> dict[str, Interval]:
    """The accuracy at equal length and the slope b; without a spread the interval is the figure alone."""
    features = length_features(chosen, rejected)
    level, slope = fit_logistic(features, right, prior_deviation=_PRIOR_DEVIATION)
    draws = np.array([[level, slope]])
    if len(set(clusters)) > 1:
        draws = bootstrap_logistic(features, right, clusters, prior_deviation=_PRIOR_DEVIATION)
    return {
        "_length_controlled": percentiles(float(sigmoid(level)), sigmoid(draws[:, 0])),
        "_length_slope": percentiles(float(slope), draws[:, 1]),
    }


def _add(figures: dict[str, Any], name: str, found: Interval) -> None:
    figures[name] = found.value
    figures[f"{name}_interval"] = [found.low, found.high]
