"""Who attends to whom in a packed row, as plain numbers: the one description that every attention kernel is fed.

A block is one response: its queries, the shared prefix that they look back to, and its own tokens. Blocks stand in
the order of the row, so that their queries, put side by side, are the rows that are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penchant.batching.pair_batch import Segment

Rows = tuple[int, int]  # from, up to and without


@dataclass(frozen=True)
class Block:
    """One response of a group: which rows ask, and which rows they look at.

    Keys are the rows of `prefix` followed by those of `own`. Query i of n is key number `num_keys` - n + i of its
    block and sees that key and all before it (a causal mask that is aligned at the bottom right).

    Attributes:
        query: Rows whose queries are computed: the last ones of `own`, often all of them.
        prefix: Rows of the shared prefix, keys only; empty for the first response, whose own rows hold the prefix.
        own: Rows of the response itself, with the prefix for the first one; ends where `query` ends.
    """

    query: Rows
    prefix: Rows
    own: Rows

    @property
    def num_queries(self) -> int:
        """Rows that are computed."""
        return self.query[1] - self.query[0]

    @property
    def num_keys(self) -> int:
        """Rows that they look at."""
        return self.prefix[1] - self.prefix[0] + self.own[1] - self.own[0]


def blocks(segments: Sequence[Segment], first_query: Sequence[int] | None = None) -> tuple[Block, ...]:
    """Return the blocks of some groups in the order of the row; those without a query are left out.

    Args:
        segments: The groups.
        first_query: For each group the first row, counted from the start of the packed row, whose query is wanted;
            all later rows of the group are wanted too. None wants every row. In the last layer, where a prompt
            serves only as keys and values, it is the row that predicts the first scored token.

    Raises:
        ValueError: A first row lies outside its group.
    """
    firsts = [segment.start for segment in segments] if first_query is None else first_query
    return tuple(block for pair in zip(segments, firsts, strict=True) for block in _group_blocks(*pair))


def query_rows(these: Sequence[Block]) -> Tensor:
    """Return the rows whose queries are computed, in order, shape (queries,), int64, on the CPU."""
    return rows_of([block.query for block in these])


def rows_of(ranges: Sequence[Rows]) -> Tensor:
    """Return the numbers in some ranges, one range after the other, int64, on the CPU."""
    return torch.cat([torch.arange(0), *(torch.arange(*rows) for rows in ranges)])


def sent_to(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a CPU tensor on a device; the host does not wait for a copy to CUDA."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _group_blocks(segment: Segment, first: int) -> list[Block]:
    start, prefix_end = segment.start, segment.start + segment.prefix
    if not start <= first <= start + segment.length:
        raise ValueError(f"row {first} is outside the group at {start} of {segment.length} rows")
    found: list[Block] = []
    cursor = start
    for number, rest in enumerate(segment.rests):
        end = (prefix_end if number == 0 else cursor) + rest
        prefix = (start, start) if number == 0 else (start, prefix_end)
        query = (max(cursor, first), end)
        if query[0] < end:
            found.append(Block(query, prefix, (cursor, end)))
        cursor = end
    return found
