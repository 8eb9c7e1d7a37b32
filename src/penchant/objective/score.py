"""Scoring: the log-probability of every response token under a model, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from penchant.batching.packing import share_out, split_by_tokens
from penchant.batching.pair_batch import Group, pair_group
from penchant.objective.logps import PairLogps
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache, trunk_output
from penchant.processes import rank, told_by_all, world_size
from penchant.tokens.store import Mapped
from penchant.types import TokenizedPair


@torch.no_grad()
def score_groups(
    model: PairModel,
    groups: Sequence[Group],
    *,
    micro_batch_tokens: int,
    chunks: Sequence[Sequence[int]] | None = None,
    trunk_cache: TrunkCache | None = None,
    on_groups: Callable[[int], None] | None = None,
) -> list[list[Tensor]]:
    """Return the token log-probabilities (nats, fp32, on the CPU) of every response of every group.

    Several processes share the work; each returns all of it.

    Args:
        model: What scores.
        groups: What is scored.
        micro_batch_tokens: Most tokens in one forward pass.
        chunks: Which groups share a pass, each at most once; by default all, those of like length together.
        trunk_cache: Filled with the outputs of the frozen layers, if given.
        on_groups: Told how many groups were done, batch by batch.
    """
    cache = TrunkCache(0) if trunk_cache is None else trunk_cache  # an empty cache is false
    scores: list[list[Tensor]] = [[] for _ in groups]
    chunks = _chunks_by_length(groups, micro_batch_tokens) if chunks is None else chunks
    tokens = [sum(groups[index].num_packed_tokens for index in chunk) for chunk in chunks]
    for chunk in (chunks[place] for place in share_out(tokens, world_size())[rank()]):
        batch = model.collate([groups[index] for index in chunk])
        token_logps = model(batch, trunk_output(model, batch, chunk, cache)).cpu()
        counts = torch.bincount(batch.sequence_index.cpu(), minlength=batch.num_sequences).tolist()
        parts = iter(token_logps.split(counts))
        for index in chunk:
            scores[index] = [next(parts).clone() for _ in groups[index].responses]
        if on_groups:
            on_groups(len(chunk))
    return [next(filter(None, told), []) for told in zip(*told_by_all(scores), strict=True)]


def _chunks_by_length(groups: Sequence[Group], micro_batch_tokens: int) -> list[list[int]]:
    lengths = [group.num_packed_tokens for group in groups]
    order = sorted(range(len(groups)), key=lambda index: lengths[index])
    parts = split_by_tokens([lengths[index] for index in order], micro_batch_tokens)
    return [[order[position] for position in part] for part in parts]


def score_pairs(
    model: PairModel,
    pairs: Sequence[TokenizedPair],
    *,
    micro_batch_tokens: int,
    trunk_cache: TrunkCache | None = None,
    on_pairs: Callable[[int], None] | None = None,
) -> PairLogps:
    """Return the summed log-probabilities of pairs, in their order. See `score_groups`."""
    scores = score_groups(
        model,
        Mapped(pair_group, pairs),
        micro_batch_tokens=micro_batch_tokens,
        trunk_cache=trunk_cache,
        on_groups=on_pairs,
    )
    return summed(scores)


def summed(scores: Sequence[Sequence[Tensor]]) -> PairLogps:
    """Return the pair sums of the token log-probabilities that `score_groups` gave; NaN where it gave none."""

    def sums(side: int) -> Tensor:  # in float64: a long response has thousands of terms
        return torch.tensor([float(row[side].double().sum()) if row else float("nan") for row in scores])

    def counts(side: int) -> Tensor:
        return torch.tensor([float(len(row[side])) if row else 0.0 for row in scores])

    return PairLogps(sums(0), sums(1), counts(0), counts(1))
