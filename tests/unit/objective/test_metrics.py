"""What a step adds up."""

from __future__ import annotations

import pytest
import torch

from penchant.config import ObjectiveConfig
from penchant.objective.logps import PairLogps
from penchant.objective.metrics import StepSums, wins

CONFIG = ObjectiveConfig(beta=0.5)  # type: ignore[call-arg]


def logps(chosen: list[float], rejected: list[float]) -> PairLogps:
    return PairLogps(
        torch.tensor(chosen),
        torch.tensor(rejected),
        torch.full((len(chosen),), 2.0),
        torch.full((len(chosen),), 4.0),
    )


def test_means_by_hand() -> None:
    """Log-ratios of +2 and -1 on the chosen, -4 and 0 on the rejected; beta one half."""
    sums = StepSums()
    policy, reference = logps([-3.0, -6.0], [-9.0, -5.0]), logps([-5.0, -5.0], [-5.0, -5.0])
    sums.add(torch.tensor([0.2, 0.4]), policy, reference, config=CONFIG, tokens=17)
    assert sums.means() == pytest.approx(
        {
            "loss": 0.3,
            "logps/chosen": -4.5,
            "logps/rejected": -7.0,
            "rewards/chosen": 0.25,
            "rewards/rejected": -1.0,
            "rewards/margins": 1.25,
            "rewards/accuracies": 0.5,
        }
    )
    assert (sums.pairs, sums.tokens, sums.largest_reward()) == (2, 17, 2.0)


def test_means_per_token_change_rewards_but_not_logps() -> None:
    """With objective.logps: mean the rewards are per token; logps stay sums in nats."""
    sums = StepSums()
    config = ObjectiveConfig(beta=0.5, logps="mean")  # type: ignore[call-arg]
    sums.add(torch.tensor([0.2]), logps([-3.0], [-9.0]), logps([-5.0], [-5.0]), config=config, tokens=1)
    means = sums.means()
    assert means["rewards/chosen"] == pytest.approx(0.5 * 2 / 2)
    assert means["rewards/rejected"] == pytest.approx(0.5 * -4 / 4)
    assert means["rewards/margins"] == pytest.approx(1.0)
    assert means["logps/chosen"] == -3.0


def test_any_split_adds_up_to_the_same() -> None:
    """One part of three pairs, and parts of one and two."""
    policy, reference = [-1.5, -2.25, -30.0], [-4.0, -8.0, -2.0]
    losses = torch.tensor([0.1, 0.7, 3.0])
    whole, split = StepSums(), StepSums()
    whole.add(losses, logps(policy, reference), logps(reference, policy), config=CONFIG, tokens=6)
    for part in (slice(0, 1), slice(1, 3)):
        pieces = logps(policy[part], reference[part]), logps(reference[part], policy[part])
        split.add(losses[part], *pieces, config=CONFIG, tokens=2 * len(losses[part]))
    assert split.means() == pytest.approx(whole.means(), rel=1e-12)
    assert (split.pairs, split.tokens, split.largest_reward()) == (3, 6, whole.largest_reward())
    assert float(split.loss) == pytest.approx(3.8)


def test_without_a_reference_there_are_no_rewards() -> None:
    """The likelihood objective logs its loss and log-probabilities, and nothing it does not know."""
    sums = StepSums()
    sums.add(torch.tensor([1.0]), logps([-1.0], [-2.0]), None, config=CONFIG, tokens=3)
    assert set(sums.means()) == {"loss", "logps/chosen", "logps/rejected"}


def test_a_tie_is_half_a_win() -> None:
    """So that an untrained policy has accuracy one half, not zero."""
    assert wins(torch.tensor([0.1, 0.0, -0.1])).tolist() == [1.0, 0.5, 0.0]
