"""How probable two answers are under two models, and which of them the one leans to more than the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = ("left", "right")
_CLEAR = 2.0  # times what rounding does to a margin, as with any standard deviation


@dataclass(frozen=True)
class Likelihood:
    """How probable an answer is under a model, at temperature 1.

    Attributes:
        logps: Sum over the answer's tokens, its end token included if it ended by itself; nats.
        tokens: How many these are for this model's tokenizer.
        rounding: By how much the sum is off, as a standard deviation, because weights are rounded; nats.
    """

    logps: float
    tokens: int
    rounding: float = 0.0

    @property
    def mean_logps(self) -> float:
        """Nats per token; 0 for no token."""
        return self.logps / self.tokens if self.tokens else 0.0


Likelihoods = Mapping[Side, Mapping[Side, Likelihood]]
"""By the side that said it, then by the side whose model it is judged by."""


@dataclass(frozen=True)
class Lean:
    """Which answer the left model favours more than the right model does.

    Attributes:
        nats: Log-ratio of the left answer minus that of the right one, each left model - right model.
        rounding: Its standard deviation because weights are rounded; nats.
    """

    nats: float
    rounding: float

    @property
    def side(self) -> Side | None:
        """The favoured answer; None where rounding alone could say as much."""
        if abs(self.nats) <= _CLEAR * self.rounding or self.nats == 0:
            return None
        return "left" if self.nats > 0 else "right"


def lean(likelihoods: Likelihoods) -> Lean | None:
    """Return what the four figures of two answers say together; None where they are not four finite ones.

    With the policy at the left and its reference at the right, the nats times beta are the margin of the implicit
    rewards (Rafailov et al. 2023, arXiv:2305.18290, section 4).
    """
    if set(likelihoods) != set(SIDES) or any(set(found) != set(SIDES) for found in likelihoods.values()):
        return None
    left, right = (likelihoods[side]["left"].logps - likelihoods[side]["right"].logps for side in SIDES)
    if not math.isfinite(left - right):
        return None
    # models that are close to one another round alike: the difference is off by no more than one of the sums
    offs = [max(one.rounding for one in likelihoods[side].values()) for side in SIDES]
    return Lean(left - right, math.hypot(*offs))
