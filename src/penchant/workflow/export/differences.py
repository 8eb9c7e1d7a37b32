"""How far a reopened export is from the policy, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from penchant.workflow.export.passages import Passage


@dataclass(frozen=True)
class Differences:
    """Between policy and export, over the tokens of all responses.

    Attributes:
        responses: How many.
        tokens: How many.
        largest: Largest difference of a token's log-probability, nats.
        mean: Mean absolute difference, nats a token.
        kl: Mean KL divergence of the export's next-token distribution from the policy's, nats a token.
        greedy_equal: Tokens at which both find the same one most probable (each behind the same text).
    """

    responses: int
    tokens: int
    largest: float
    mean: float
    kl: float
    greedy_equal: int


@torch.no_grad()
def differences(
    policy: Any, export: Any, passages: Sequence[Passage], on_passage: Callable[[int], None] | None = None
) -> Differences:
    """Return how far two models are apart; both are called as transformers calls them, one response at a time."""
    apart: list[Tensor] = []
    divergence: list[Tensor] = []
    equal = 0
    for passage in passages:
        one, other = (log_probabilities(model, passage) for model in (policy, export))
        ids = torch.tensor(passage.response_ids)[:, None]
        apart.append((one.gather(1, ids) - other.gather(1, ids))[:, 0].abs())
        divergence.append((one.exp() * (one - other)).sum(dim=-1))
        equal += int((one.argmax(dim=-1) == other.argmax(dim=-1)).sum())
        if on_passage:
            on_passage(1)
    return summed(len(passages), apart, divergence, equal)


def summed(responses: int, apart: Sequence[Tensor], divergence: Sequence[Tensor], equal: int) -> Differences:
    """Return the differences of all responses, given by response: of each token, and KL at each place."""
    all_apart = torch.cat(list(apart)).double()
    kl = float(torch.cat(list(divergence)).double().mean())
    return Differences(
        responses, len(all_apart), float(all_apart.max()), float(all_apart.mean()), kl, greedy_equal=equal
    )


@torch.no_grad()
def log_probabilities(model: Any, passage: Passage) -> Tensor:
    """Log-probabilities of every token of the vocabulary at every place of the response."""
    ids = torch.tensor([passage.prompt_ids + passage.response_ids])
    scores = model(input_ids=ids, use_cache=False, logits_to_keep=len(passage.response_ids) + 1).logits[0]
    return torch.log_softmax(scores[:-1].float(), dim=-1)
