"""What single tokens of a pair got from policy and reference, as plain values."""

from __future__ import annotations

from typing import NamedTuple


class ScoredToken(NamedTuple):
    """A scored token of a response.

    Attributes:
        text: As it is decoded by itself; a part of a character is a replacement sign.
        policy: Its log-probability under the policy, nats.
        reference: Likewise under the reference.
    """

    text: str
    policy: float
    reference: float

    @property
    def difference(self) -> float:
        """Policy - reference, nats: above zero where training made the token more probable."""
        return self.policy - self.reference


class ScoredPair(NamedTuple):
    """The responses of a pair, token by token; `rejected` is empty where there is none."""

    chosen: tuple[ScoredToken, ...]
    rejected: tuple[ScoredToken, ...]
