"""How often the policy's answer beats the reference's, by any judge: both orders asked, ties one half.

A judge sees each two answers in both orders. Where the two verdicts name the same answer, it wins; where they do
not, the judge went by the order and not by the answers, which is a tie, and counted as a flip (the conservative
count of L. Zheng et al. 2023, arXiv:2306.05685, section 3.4). Where one verdict is missing there is no outcome;
these are counted too, and left out of every rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from penchant.evaluation.judges.protocol import Comparer, Verdict
from penchant.evaluation.judges.votes import swapped
from penchant.evaluation.stats import clustered, mcnemar_exact, wilson
from penchant.types import Answer, Prompt

Outcome = Literal["win", "loss", "tie"]
VALUES: dict[Outcome, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
"""What an outcome counts."""


@dataclass(frozen=True)
class Judgement:
    """What a judge says of the policy's and the reference's answer to one prompt.

    Attributes:
        outcome: Of the policy; None when the judge gave no verdict in one of the orders.
        policy_first: The verdict with the policy's answer shown first; None where the texts are the same, and
            nobody was asked.
        reference_first: The verdict the other way round.
    """

    outcome: Outcome | None
    policy_first: Verdict | None = None
    reference_first: Verdict | None = None

    @property
    def flipped(self) -> bool:
        """Whether the two orders gave two different answers the better mark."""
        if self.policy_first is None or self.reference_first is None:
            return False
        one, other = self.policy_first.preference, self.reference_first.preference
        return one is not None and other is not None and one != swapped(other)


def judge_both_orders(
    judge: Comparer, prompts: Sequence[Prompt], policy: Sequence[Answer], reference: Sequence[Answer]
) -> list[Judgement]:
    """Return a judgement for each prompt; answers of the same text are a tie without asking.

    Args:
        judge: Who compares; asked once, about both orders of all prompts.
        prompts: What was asked.
        policy: The policy's answers.
        reference: The reference's.
    """
    rows = list(zip(prompts, policy, reference, strict=True))
    asked = [row for row in rows if row[1].text != row[2].text]
    shown = [(prompt, ours, theirs) for prompt, ours, theirs in asked]
    shown += [(prompt, theirs, ours) for prompt, ours, theirs in asked]
    verdicts = judge.compare(*map(list, zip(*shown, strict=True))) if shown else []
    both = iter(zip(verdicts[: len(asked)], verdicts[len(asked) :], strict=True))
    return [Judgement("tie") if ours.text == theirs.text else judged(*next(both)) for _, ours, theirs in rows]


def judged(policy_first: Verdict, reference_first: Verdict) -> Judgement:
    """Return what the verdicts on both orders come to."""
    one, other = policy_first.preference, reference_first.preference
    if one is None or other is None:
        return Judgement(None, policy_first, reference_first)
    agreed = one == swapped(other)
    outcome: Outcome = "tie" if not agreed or one == "tie" else "win" if one == "first" else "loss"
    return Judgement(outcome, policy_first, reference_first)


def win_rate_figures(judgements: Sequence[Judgement], clusters: Sequence[str]) -> dict[str, Any]:
    """Return the win rate of the policy and what it rests on.

    `win_rate` (ties one half) has a 95 % interval clustered by `clusters`; `win_rate_p` is the exact two-sided
    sign test on wins and losses, which takes prompts as independent. `judge_flips_fraction` is of the prompts on
    which the judge was asked and gave both verdicts. Figures that nothing can be said about are not there.

    Args:
        judgements: One a prompt.
        clusters: Prompts that share one are not independent of each other.
    """
    judged_rows = [
        (one, cluster) for one, cluster in zip(judgements, clusters, strict=True) if one.outcome is not None
    ]
    outcomes: list[Outcome] = [one.outcome for one, _ in judged_rows if one.outcome is not None]
    wins, ties, losses = map(outcomes.count, VALUES)
    asked = [one for one, _ in judged_rows if one.policy_first is not None]
    figures: dict[str, Any] = {
        "win_rate_prompts": len(judgements),
        "win_rate_wins": wins,
        "win_rate_losses": losses,
        "win_rate_ties": ties,
        "win_rate_same_text": sum(one.outcome == "tie" and one.policy_first is None for one in judgements),
        "win_rate_no_verdict": len(judgements) - len(outcomes),
        "judge_flips": sum(one.flipped for one in asked),
        "win_rate_p": mcnemar_exact(wins, losses),
    }
    if outcomes:
        values = np.array([VALUES[outcome] for outcome in outcomes])
        rate = clustered(values, [cluster for _, cluster in judged_rows])
        figures |= {"win_rate": float(values.mean()), "win_rate_interval": [rate.low, rate.high]}
    if asked:
        flips = wilson(figures["judge_flips"], len(asked))
        figures |= {"judge_flips_fraction": flips.value, "judge_flips_fraction_interval": [flips.low, flips.high]}
    return figures
