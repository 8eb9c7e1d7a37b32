"""Which of several runs to take: accuracy against distance from the reference, and a winner not picked by noise.

A run that learns more of the preference moves further from the reference, so runs are compared by both figures, as
in figure 2 of Rafailov et al. 2023 (arXiv:2305.18290): what was won against KL(policy || reference) over answers
that the policy itself gives. A run is on the frontier when no other has at least its accuracy for at most its KL
and is better in one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.stats import Interval, cluster_bootstrap, clustered, paired_bootstrap_difference


@dataclass(frozen=True)
class Judged:
    """What one run came to on the pairs and prompts that all runs are judged on.

    Attributes:
        name: Of the run.
        wins: One a pair, in the same order for every run: 1 where the chosen response gained more than the
            rejected one against the reference, 1/2 where both gained alike, else 0.
        divergences: One a prompt: `answer_divergence` of an answer drawn from the policy, nats.
    """

    name: str
    wins: Sequence[float]
    divergences: Sequence[float]

    def accuracy(self, clusters: Sequence[str]) -> Interval:
        """Return the share of pairs won, in [0, 1], with its 95 % interval; rows of one cluster depend."""
        return clustered(np.asarray(self.wins, dtype=np.float64), clusters)

    def divergence(self) -> Interval:
        """Return KL(policy || reference) in nats per answer, with its 95 % interval over prompts.

        An answer counts as far as it was drawn.
        """
        return cluster_bootstrap(self.divergences, range(len(self.divergences)))


@dataclass(frozen=True)
class Choice:
    """Which run was chosen, and against what.

    Attributes:
        winner: Index of the run that was chosen.
        best: Index of the run with the highest accuracy.
        level: Indices of the runs that cannot be told from the best one, itself included.
        behind: Of every run, by how much the best one's accuracy is above it: paired, with a 95 % interval.
    """

    winner: int
    best: int
    level: tuple[int, ...]
    behind: tuple[Interval, ...]


def answer_divergence(policy: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return what one answer, drawn from the policy token by token, says of KL(policy || reference), nats, >= 0.

    The sum over its tokens of r - 1 - log r, where r is the reference's probability of the token over the
    policy's. The mean of -log r alone would do, but where the two are close it is mostly noise; r - 1 has the mean
    zero and takes most of that away, so the estimate stays without bias and no term of it is below zero: k3 of
    J. Schulman, "Approximating KL divergence" (2020).

    Args:
        policy: Log-probability of every token of the answer, nats.
        reference: The same under the reference.
    """
    log_ratio = np.asarray(reference, dtype=np.float64) - np.asarray(policy, dtype=np.float64)
    return float((np.expm1(log_ratio) - log_ratio).sum())


def on_frontier(accuracies: Sequence[float], divergences: Sequence[float]) -> list[bool]:
    """Return for each run whether no other is at least as good in both figures and better in one.

    >>> on_frontier([0.6, 0.7, 0.65], [1.0, 2.0, 3.0])
    [True, True, False]
    """
    points = list(zip(accuracies, divergences, strict=True))
    return [
        not any(a >= accuracy and d <= divergence and (a > accuracy or d < divergence) for a, d in points)
        for accuracy, divergence in points
    ]


def choose(runs: Sequence[Judged], clusters: Sequence[str]) -> Choice:
    """Return the choice: of the runs that cannot be told from the most accurate one, that with the lowest KL.

    Two runs cannot be told apart when the 95 % interval of their paired difference, clustered, holds zero. Each is
    compared with the best alone, without a correction for how many there are; to be level is therefore no proof of
    being equal.

    Args:
        runs: At least one, judged on the same pairs and prompts.
        clusters: What each pair belongs to, at least two.

    Raises:
        ValueError: There is no run, or fewer than two clusters.
    """
    if not runs:
        raise ValueError("there is no run to choose from")
    accuracies = [float(np.mean(run.wins)) for run in runs]
    divergences = [float(np.mean(run.divergences)) for run in runs]
    best = min(range(len(runs)), key=lambda index: (-accuracies[index], divergences[index]))
    behind = tuple(paired_bootstrap_difference(runs[best].wins, run.wins, clusters) for run in runs)
    level = tuple(index for index, difference in enumerate(behind) if difference.low <= 0)
    winner = min(level, key=lambda index: (divergences[index], -accuracies[index]))
    return Choice(winner, best, level, behind)


def describe_choice(choice: Choice, runs: Sequence[Judged]) -> str:
    """Return in words why this run was chosen."""
    names = [run.name for run in runs]
    winner, best = names[choice.winner], names[choice.best]
    if len(runs) == 1:
        return f"{winner} is the only run."
    others = [names[index] for index in choice.level if index != choice.winner]
    if not others:
        return f"{winner} has the highest validation accuracy, distinguishable from every other run's."
    if choice.winner == choice.best:
        return (
            f"{winner} has the highest validation accuracy. It is not distinguishable from {', '.join(others)}; "
            "of these its KL is the lowest."
        )
    gap, rest = choice.behind[choice.winner], [name for name in others if name != best]
    above = f"{100 * gap.value:.1f} points above it [{100 * gap.low:.1f}, {100 * gap.high:.1f}]"
    return (
        f"{winner} has the lowest KL of the runs whose validation accuracy is not distinguishable from the "
        f"highest, that of {best} ({above})" + (f"; the same holds for {', '.join(rest)}." if rest else ".")
    )
