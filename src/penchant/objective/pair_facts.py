"""What is known of the pairs of a step beside their log-probabilities.

Their shares in the loss, what their rows say, and what only the whole step can tell.

Some losses compare the pairs of a step with one another. Their statistics are constants of the step: they are
taken from a pass over all of it, without gradient, before the first of its micro-batches is differentiated, so
that no number depends on how the step was split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from penchant.config import ObjectiveConfig
from penchant.objective.logps import PairLogps
from penchant.objective.losses import log_ratios
from penchant.types import TokenizedPair

_COUPLED = ("aot", "bco", "kto")


@dataclass(frozen=True)
class PairFacts:
    """Of some pairs of a step.

    Attributes:
        share: Of each pair in the sum that is minimised, shape (pairs,); over the step they add up to about one.
        offset: How much larger the chosen response's reward should be, shape (pairs,), or None: not at all.
        flipped: The assumed probability that the label is wrong, shape (pairs,), or None: the configured one.
        desirable: For KTO whether the response is desirable, shape (pairs,), or None.
        statistics: What the whole step says about each pair, by name, shape (pairs,) each.
    """

    share: Tensor
    offset: Tensor | None = None
    flipped: Tensor | None = None
    desirable: Tensor | None = None
    statistics: dict[str, Tensor] = field(default_factory=dict)

    def select(self, places: Tensor | slice) -> PairFacts:
        """Return the facts of some of the pairs."""
        return PairFacts(
            self.share[places],
            None if self.offset is None else self.offset[places],
            None if self.flipped is None else self.flipped[places],
            None if self.desirable is None else self.desirable[places],
            {name: values[places] for name, values in self.statistics.items()},
        )


def pair_facts(
    config: ObjectiveConfig, pairs: Sequence[TokenizedPair], share: float, device: torch.device | str
) -> PairFacts:
    """Return what the rows say about some pairs.

    A pair without a weight counts once, one without a margin need not win by any, and one without a confidence is
    as often wrong as `label_smoothing` says.

    Args:
        config: Which of it is used.
        pairs: The pairs.
        share: Of a pair of weight 1 in the step's loss.
        device: Where the tensors are wanted.
    """

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=device)

    weights = [1.0 if pair.weight is None or not config.pair_weights else pair.weight for pair in pairs]
    offset, flipped = None, None
    if config.margin_scale:
        offset = column([config.margin_scale * (pair.margin or 0.0) for pair in pairs])
    if config.label_confidence:
        usual = config.label_smoothing
        flipped = column([usual if pair.confidence is None else 1 - pair.confidence for pair in pairs])
    desirable = None
    if "kto" in config.losses:
        desirable = torch.tensor([pair.desirable is True for pair in pairs], device=device)
    return PairFacts(column([weight * share for weight in weights]), offset, flipped, desirable)


def is_coupled(config: ObjectiveConfig) -> bool:
    """Return whether the loss of a pair depends on the other pairs of its step, or on more than its own sums."""
    return config.wpo or any(name in _COUPLED for name in config.losses)


@torch.no_grad()
def step_statistics(
    config: ObjectiveConfig, policy: PairLogps, reference: PairLogps | None, agreement: Tensor | None
) -> dict[str, Tensor]:
    """Return what a whole step says about each of its pairs, shape (pairs,) each.

    Args:
        config: Which losses need it.
        policy: Log-probabilities of all pairs of the step, as the losses see them.
        reference: Likewise.
        agreement: For WPO the mean over each response's tokens of log p(token) - log sum over the vocabulary of
            p^2, nats, shape (pairs, 2).

    Returns:
        `shift` (BCO): the mean reward of all responses. `divergence` (KTO): the mean log-ratio of responses to
        other prompts, at least 0: the estimate of KL(policy || reference), nats. `rival` (AOT): the difference of
        the reference's two log-probabilities that stands, when both are sorted, where the policy's own does.
        `wpo`: the weight of Zhou et al. 2024 (arXiv:2406.11827), Eq. 2 with sampled alignment, at most 1, as its
        authors' code has it.
    """
    found: dict[str, Tensor] = {}
    if config.wpo:
        assert agreement is not None
        found["wpo"] = agreement.sum(1).exp().clamp(max=1)
    if reference is None:
        return found
    chosen, rejected = log_ratios(policy, reference)
    if "bco" in config.losses:
        mean = 0.5 * config.beta * (chosen.double() + rejected.double()).mean()
        found["shift"] = mean.to(chosen.dtype).expand(len(chosen))
    if "kto" in config.losses:  # the second response of an example belongs to another prompt
        found["divergence"] = rejected.double().mean().clamp(min=0).to(rejected.dtype).expand(len(rejected))
    if "aot" in config.losses:
        own, theirs = policy.chosen - policy.rejected, reference.chosen - reference.rejected
        found["rival"] = theirs.sort().values[own.argsort(stable=True).argsort()]
    return found
