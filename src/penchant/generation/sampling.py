"""From next-token scores to a token: pure functions on logits.

Each row has its own stream of uniform numbers, drawn from (seed, row), so an answer does not depend on which
other rows share its batch. The token is found by inverting the cumulative distribution, which costs far less
than drawing noise for the whole vocabulary.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from penchant.errors import NotFiniteError
from penchant.types import Sampling

GREEDY = Sampling()
_SORTED_FIRST = 1024  # tokens that nearly always hold top_p; all are sorted where they do not


def row_key(name: str, sample: int) -> int:
    """Return the row of a named prompt's sample, for `uniforms`: the same wherever the prompt stands in a list."""
    return int.from_bytes(hashlib.sha256(f"{sample} {name}".encode()).digest()[:7])


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

    Raises:
        NotFiniteError: A row's largest score is not a finite number.
    """
    if sampling.temperature == 0.0:
        tokens = logits.float().argmax(dim=-1)  # of a row with a NaN, that NaN; in bf16 it is slow on a CPU
        _check_finite(logits.gather(-1, tokens.unsqueeze(-1)))
        return tokens
    probabilities, ids = _probabilities(logits.float(), sampling)
    kept = torch.where(probabilities >= sampling.min_p * probabilities.amax(-1, keepdim=True), probabilities, 0.0)
    if sampling.top_p < 1:  # they are sorted then
        # a token stays while the mass before it is below top_p, so the likeliest always stays
        before = probabilities.cumsum(dim=-1) - probabilities
        kept = torch.where(before < sampling.top_p, kept, 0.0)
    cumulative = kept.cumsum(dim=-1)
    total = cumulative[:, -1:]
    target = uniform.to(cumulative).unsqueeze(-1) * total
    target = torch.minimum(
        target, torch.nextafter(total, torch.zeros_like(total))
    )  # what is kept ends before total
    index = torch.searchsorted(cumulative, target, right=True)
    return (index if ids is None else ids.gather(-1, index)).squeeze(-1)


def _probabilities(scores: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """The tokens' probabilities, shape (rows, some), and their ids; without ids, those of the whole vocabulary.

    With top-k or top-p the likeliest come first. To sort the whole vocabulary costs more than all else here, so it
    is done only where it must be.
    """
    size, ids = scores.shape[-1], None
    if sampling.top_k:
        scores, ids = scores.topk(min(sampling.top_k, size), dim=-1)  # NaN come first
    largest = scores.amax(dim=-1, keepdim=True)
    _check_finite(largest)
    # without the largest first, a very small temperature would make infinities of the scores
    probabilities = torch.softmax((scores - largest) / sampling.temperature, dim=-1)
    if ids is not None or sampling.top_p == 1:
        return probabilities, ids
    first, ids = probabilities.topk(min(_SORTED_FIRST, size), dim=-1)
    if bool((first.cumsum(dim=-1)[:, -1] >= sampling.top_p).all()):
        return first, ids
    return probabilities.sort(dim=-1, descending=True)


def _check_finite(largest: Tensor) -> None:
    if not bool(largest.isfinite().all()):
        raise NotFiniteError("the model's scores are not finite numbers, so no token can be chosen by them")
