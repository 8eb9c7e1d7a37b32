"""From next-token scores to a token: pure functions on logits.

Each row has its own stream of uniform numbers, drawn from (seed, row), so an answer does not depend on which
other rows share its batch. The token is found by inverting the cumulative distribution, which costs far less
than drawing noise for the whole vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Attributes:
        temperature: 0 chooses the likeliest token; otherwise scores are divided by it.
        top_k: Only this many likeliest tokens can be chosen.
        top_p: Only the likeliest tokens that together hold this share of the probability, in (0, 1].
        seed: Of the rows' uniform numbers.
    """

    temperature: float = 0.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0


GREEDY = Sampling()


def uniforms(seed: int, row: int, count: int) -> Tensor:
    """Return `count` uniform numbers in [0, 1), a function of (seed, row) alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + row) % (2**63))
    return torch.rand(count, generator=generator)


def choose_tokens(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """Return one token id a row.

    Args:
        logits: Scores, shape (rows, vocab).
        sampling: How to choose.
        uniform: One number in [0, 1) a row, shape (rows,); not used when greedy.
    """
    if sampling.temperature == 0.0:
        return logits.argmax(dim=-1)
    top_k = min(sampling.top_k, logits.shape[-1])
    scores, ids = logits.float().topk(top_k, dim=-1)
    probabilities = torch.softmax(scores / sampling.temperature, dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    # a token stays while the mass before it is below top_p, so the likeliest always stays
    kept = torch.where(cumulative - probabilities < sampling.top_p, probabilities, 0.0)
    cumulative = kept.cumsum(dim=-1)
    target = uniform.to(cumulative).unsqueeze(-1) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).clamp_(max=top_k - 1)
    return ids.gather(-1, index).squeeze(-1)
