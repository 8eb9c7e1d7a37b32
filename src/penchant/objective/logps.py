"""Log-probabilities of responses: per token, summed, and as per-token means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penchant.batching.pair_batch import PairBatch
from penchant.processes import joined


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of pairs, summed over each response.

    Attributes:
        chosen: Nats, shape (pairs,).
        rejected: Nats, shape (pairs,).
        chosen_tokens: Scored tokens of each chosen response, shape (pairs,).
        rejected_tokens: Likewise.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    def mean(self) -> PairLogps:
        """Return per-token means, nats per token, in place of the sums; 0 for a response that is not there."""
        return PairLogps(
            self.chosen / self.chosen_tokens.clamp(min=1),
            self.rejected / self.rejected_tokens.clamp(min=1),
            self.chosen_tokens,
            self.rejected_tokens,
        )

    def select(self, rows: Tensor, device: torch.device | str | None = None) -> PairLogps:
        """Return some of the pairs, in the order of `rows`, shape (selected,), on a device."""
        return PairLogps(*(getattr(self, name)[rows].to(device) for name in self.__dataclass_fields__))


def pair_logps(token_logps: Tensor, batch: PairBatch, ld_alpha: float | None = None) -> PairLogps:
    """Sum token log-probabilities over each response of a batch of pairs.

    Args:
        token_logps: Nats, shape (scored,).
        batch: The batch they belong to; each group holds a chosen and a rejected response.
        ld_alpha: Weight of the tokens beyond the shorter response, see `beyond_shorter`; None = 1.
    """
    if ld_alpha is not None:
        counts = torch.bincount(batch.sequence_index, minlength=batch.num_sequences)
        token_logps = token_logps * beyond_shorter(counts[batch.pairs], ld_alpha).to(token_logps)
    sums, counts = sequence_sums(token_logps, batch.sequence_index, batch.num_sequences)
    chosen, rejected = batch.pairs.unbind(1)
    return PairLogps(sums[chosen], sums[rejected], counts[chosen], counts[rejected])


def joined_logps(parts: Sequence[PairLogps]) -> PairLogps:
    """Return the pairs of several micro-batches as one."""
    return PairLogps(
        *(torch.cat(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True))
    )


def of_all_processes(own: PairLogps, pairs: Sequence[int]) -> PairLogps:
    """Return the pairs of all processes one after the other; `pairs` says how many each of them has."""
    return PairLogps(*(joined(column, pairs) for column in vars(own).values()))


def beyond_shorter(lengths: Tensor, alpha: float) -> Tensor:
    """Return the weight of every token of some pairs in LD-DPO, fp64, shape (lengths.sum(),).

    1 up to the length of the pair's shorter response, `alpha` beyond it, for policy and reference alike: Liu et
    al. 2024 (arXiv:2409.06411), Sec. 3.

    Args:
        lengths: Scored tokens of each chosen and rejected response, shape (pairs, 2).
        alpha: In [0, 1); 1 would be DPO.
    """
    counts = lengths.flatten()
    within = torch.arange(int(counts.sum()), device=counts.device) - torch.repeat_interleave(
        counts.cumsum(0) - counts, counts
    )
    shorter = torch.repeat_interleave(lengths.min(dim=1).values, lengths.sum(dim=1))
    return torch.where(within < shorter, 1.0, alpha)


def sequence_sums(token_logps: Tensor, sequence_index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the sum of each sequence's token log-probabilities (nats, fp32) and its number of tokens.

    Args:
        token_logps: Nats, shape (scored,).
        sequence_index: Which sequence each belongs to, shape (scored,).
        count: Sequences.
    """
    # in float64, like the reference's sums: a long response has thousands of terms (MPS has no float64)
    terms = token_logps if token_logps.device.type == "mps" else token_logps.double()
    sums = terms.new_zeros(count).index_add(0, sequence_index, terms)
    tokens = torch.bincount(sequence_index, minlength=count)
    return sums.to(token_logps.dtype), tokens.to(token_logps.dtype)
