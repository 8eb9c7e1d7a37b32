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
            "chosen_fell_fraction": 0.5,
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
    likelihood = ObjectiveConfig(loss="sft")  # type: ignore[call-arg]
    sums.add(torch.tensor([1.0]), logps([-1.0], [-2.0]), None, config=likelihood, tokens=3)
    assert set(sums.means()) == {"loss", "logps/chosen"}


def test_a_loss_without_reference_rewards_the_policys_own_means() -> None:
    """SimPO: beta times the log-probability per token, of two and of four."""
    sums = StepSums()
    simpo = ObjectiveConfig(loss="simpo")  # type: ignore[call-arg]
    sums.add(torch.tensor([1.0]), logps([-1.0], [-6.0]), None, config=simpo, tokens=3)
    means = sums.means()
    assert means["rewards/chosen"] == 2.0 * -1.0 / 2
    assert means["rewards/margins"] == 2.0 * (-1.0 / 2 + 6.0 / 4)
    assert "chosen_fell_fraction" not in means


def test_labelled_responses_are_counted_by_label() -> None:
    """KTO: two desirable responses and one undesirable; a part without any of a kind adds nothing to it."""
    sums = StepSums()
    kto = ObjectiveConfig(loss="kto", beta=1.0)  # type: ignore[call-arg]
    for chosen, labels in (([-1.0, -2.0], [True, False]), ([-4.0], [True])):
        nothing = [0.0] * len(chosen)
        sums.add(
            torch.zeros(len(chosen)),
            logps(chosen, nothing),
            logps(nothing, nothing),
            config=kto,
            tokens=1,
            desirable=torch.tensor(labels),
        )
    means = sums.means()
    assert means["rewards/desirable"] == -2.5
    assert means["rewards/undesirable"] == -2.0
    assert means["rewards/margins"] == -0.5
    assert "rewards/chosen" not in means


def test_a_likelihood_per_token_counts_the_tokens_of_the_step() -> None:
    """Responses of 2 and 6 tokens that lost 3 and 21 nats: 3 nats a token, in one part or in two."""
    config = ObjectiveConfig(loss="sft")  # type: ignore[call-arg]
    zero = torch.zeros(2)
    policy = PairLogps(torch.tensor([-3.0, -21.0]), zero, torch.tensor([2.0, 6.0]), zero)
    whole, split = StepSums(), StepSums()
    whole.add(-policy.chosen, policy, None, config=config, tokens=10)
    for place in ([0], [1]):
        part = policy.select(torch.tensor(place))
        split.add(-part.chosen, part, None, config=config, tokens=5)
    assert whole.means() == split.means() == {"loss": 3.0, "logps/chosen": -12.0}


def test_a_tie_is_half_a_win() -> None:
    """So that an untrained policy has accuracy one half, not zero."""
    assert wins(torch.tensor([0.1, 0.0, -0.1])).tolist() == [1.0, 0.5, 0.0]
