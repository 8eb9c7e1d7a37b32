"""The reference's log-probabilities: scored once by the untouched policy, stored by token, reused.

A pair's log-probabilities lie in a store that all runs share, see `penchant.objective.content_address` for what
names the store and the pair. Pairs that are there are taken from it, the others are scored and added: another
beta, learning rate, loss, order, subset or superset of pairs scores only what nobody scored before.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from penchant.batching.packing import split_by_tokens
from penchant.batching.pair_batch import pair_group
from penchant.models.digest import weights_digest
from penchant.models.memory import is_out_of_memory, release_memory
from penchant.objective.content_address import pair_keys, reference_facts, store_name
from penchant.objective.even_passes import evenly
from penchant.objective.logps import PairLogps
from penchant.objective.pair_model import PairModel
from penchant.objective.shards import Shard, ShardFolder
from penchant.objective.trunk_cache import TrunkCache, trunk_output
from penchant.processes import is_first, most, of_first, total, world_size
from penchant.types import TokenizedPair

FLUSH_PAIRS = 2048  # in a shard: of a hundred thousand pairs a kill loses at most these
SPOT_CHECK_PAIRS = 2  # taken from the store that are scored again, to prove that the store is this model's

# How far a stored sum may lie from the same pair scored alone. In fp32 only the order of additions differs.
_FP32_TOLERANCE = 1e-4  # of the sum, and of one nat where the sum is less
# In bf16 each factor is rounded to 8 binary digits, off by up to 2^-9 of itself, and differently among other rows.
# Scores of the vocabulary are of size 10 to 30, so a token's log-probability, a difference of two of them, is off
# by about 16 x 2^-8 = 1/16 nat. Errors of T tokens are independent and add up to sqrt(T) / 16; four times that is
# practically never exceeded (SmolLM2-135M, 48 responses: a third of it at most), while another model's sums differ
# by a share of T.
_BF16_TOKEN_NATS = 4 / 16


@dataclass(frozen=True)
class SpotCheck:
    """How the check of a store went.

    Attributes:
        pairs: How many pairs were scored again.
        largest_difference: Between a stored and a new sum of a response, as a share of what is allowed.
        passed: Whether every difference was allowed.
    """

    pairs: int
    largest_difference: float
    passed: bool


@dataclass(frozen=True)
class Reference:
    """The reference's log-probabilities, and where they came from.

    Attributes:
        logps: Of the pairs, in their order; NaN with no token for a pair that was not asked for.
        folder: The store.
        reused: Pairs taken from the store.
        scored: Pairs that were scored; a content that stands twice is scored once (in fp32).
        spot_check: None when nothing was taken from the store.
    """

    logps: PairLogps
    folder: Path
    reused: int
    scored: int
    spot_check: SpotCheck | None

    def facts(self) -> dict[str, Any]:
        """Return where the log-probabilities came from, as plain data."""
        check = asdict(self.spot_check) if self.spot_check else None
        return {
            "store": self.folder.name,
            "folder": str(self.folder),
            "reused": self.reused,
            "scored": self.scored,
            "spot_check": check,
        }


def reference_logps(
    model: PairModel,
    pairs: Sequence[TokenizedPair],
    folder: Path,
    *,
    micro_batch_tokens: int,
    weights: str | None = None,
    chunks: Sequence[Sequence[int]] | None = None,
    keys: dict[int, bytes] | None = None,
    trunk_cache: TrunkCache | None = None,
    on_pairs: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
    ld_alpha: float | None = None,
) -> Reference:
    """Return the reference's log-probabilities of pairs, from the stores in `folder` or scored and stored there.

    Must be called before the first update: then the policy is the reference.

    Args:
        model: The untouched policy.
        pairs: What is scored.
        folder: Where the stores are; each model, precision and layout has one of its own.
        micro_batch_tokens: Most tokens in one forward pass.
        weights: Digest of the model's weights, when it is already known.
        chunks: Which pairs this process scores, and which share a pass; all by default. Given the micro-batches of
            the first epoch, policy and reference are computed in the same layout, so they agree to the last bit
            before the first update.
        keys: What `pair_keys` gives for the chunks of all processes, when it is already known.
        trunk_cache: Filled on the way, if given.
        on_pairs: Told how many pairs were done: first those of the store, then pass by pass. When it raises, what
            was scored until then is stored.
        note: Hears one line about whatever of the store could not be used.
        ld_alpha: Weight in the sums of the tokens beyond a pair's shorter response, see `beyond_shorter`.
            What is stored does not depend on it.
    """
    if chunks is None:
        lengths = [pair_group(pair).num_packed_tokens for pair in pairs]
        chunks = split_by_tokens(lengths, micro_batch_tokens)
    keys = pair_keys(pairs, chunks, model.precision) if keys is None else keys
    name = store_name(reference_facts(model, weights or weights_digest(model.model)))
    shards = ShardFolder(folder / name, note or (lambda _: None))
    table = _Table(len(pairs), keys, ld_alpha)
    if is_first():  # what another machine's disk holds may differ, and all have to go the same way
        for shard in shards.read():
            table.fill(shard)
    table.take_first()
    reused, check = table.filled, None
    if reused:
        check = _spot_check(model, pairs, table, micro_batch_tokens)
        if not check.passed:
            shards.note(
                f"Reference store: {reused} stored pairs are discarded and scored again; {check.pairs} of them, "
                f"scored again, differ by up to {check.largest_difference:.3g} times what rounding explains."
            )
            shards.discard()
            table, reused = _Table(len(pairs), keys, ld_alpha), 0
    if on_pairs and reused:
        on_pairs(reused)
    cache = TrunkCache(0) if trunk_cache is None else trunk_cache  # an empty cache is false
    own = [index for chunk in chunks for index in chunk]
    scored = int(total(torch.tensor(sum(keys[index] in table.missing for index in own))))
    _score_missing(model, pairs, chunks, table, shards, cache, on_pairs)
    table.exchange(own)
    return Reference(table.logps(), shards.folder, len(keys) - scored, scored, check)


class _Table:
    """Sums and counts of all pairs, filled by key."""

    def __init__(self, count: int, keys: dict[int, bytes], ld_alpha: float | None) -> None:
        self.ld_alpha = ld_alpha
        self.sums = torch.full((count, 2), float("nan"))
        self.counts = torch.zeros(count, 2)
        self.keys = keys
        self.missing: dict[bytes, list[int]] = {}
        for index, key in keys.items():
            self.missing.setdefault(key, []).append(index)
        self.filled = 0

    def fill(self, shard: Shard) -> int:
        """Take what is still missing; return how many pairs that gave."""
        rows: list[int] = []
        indices: list[int] = []
        for row, key in enumerate(map(bytes, shard.keys.numpy())):
            places = self.missing.pop(key, ())
            indices += places
            rows += [row] * len(places)
        if indices:
            self.sums[indices] = shard.sums(self.ld_alpha)[rows]
            self.counts[indices] = shard.lengths[rows].float()
        self.filled += len(indices)
        return len(indices)

    def take_first(self) -> None:
        """Take what the first process has."""
        if world_size() == 1:
            return
        self.sums, self.counts = of_first(self.sums), of_first(self.counts)
        known = self.counts.sum(1) > 0
        self.missing = {key: places for key, places in self.missing.items() if not known[places[0]]}
        self.filled = int(known.sum())

    def exchange(self, own: Iterable[int]) -> None:
        """Give the other processes what is this one's to score, and take what is theirs."""
        if world_size() == 1:
            return
        mine = torch.zeros(len(self.sums), 1, dtype=torch.bool)
        mine[list(own)] = True
        # everything is one process's alone, and to add zeros changes no bit
        self.sums = total(self.sums.where(mine, 0.0))
        self.counts = total(self.counts.where(mine, 0.0))
        self.sums[self.counts.sum(1) == 0] = float("nan")

    def logps(self) -> PairLogps:
        """Return it as pair sums."""
        (chosen, rejected), (chosen_tokens, rejected_tokens) = self.sums.unbind(1), self.counts.unbind(1)
        return PairLogps(chosen, rejected, chosen_tokens, rejected_tokens)


@torch.no_grad()
def _score_missing(
    model: PairModel,
    pairs: Sequence[TokenizedPair],
    chunks: Sequence[Sequence[int]],
    table: _Table,
    shards: ShardFolder,
    cache: TrunkCache,
    on_pairs: Callable[[int], None] | None,
) -> None:
    scored: list[Shard] = []
    try:
        for chunk, wanted in _passes(model, chunks, table):
            part = _missing_of(chunk, table)
            if not wanted or not part:
                if model.sharded:  # the others make this pass
                    _score(model, pairs, chunk, table.keys, cache)
                continue
            scored.append(_score(model, pairs, part, table.keys, cache))
            done = table.fill(scored[-1])
            if on_pairs:
                on_pairs(done)
            if sum(len(shard.keys) for shard in scored) >= FLUSH_PAIRS:
                shards.append(_joined(scored))
                scored = []
    finally:  # also when someone stops: nothing that was scored is lost
        if scored:
            shards.append(_joined(scored))


def _passes(
    model: PairModel, chunks: Sequence[Sequence[int]], table: _Table
) -> Iterator[tuple[Sequence[int], bool]]:
    """The chunks with something missing; of a sharded model as many passes as the process has that has most."""
    missing = [chunk for chunk in chunks if _missing_of(chunk, table)]
    if model.sharded and not missing:
        return ((chunks[0], False) for _ in range(most(0)))
    return evenly(model, missing)


def _missing_of(chunk: Sequence[int], table: _Table) -> list[int]:
    """What of a chunk is to be scored: one index a key. In bf16 all or nothing, since keys cover the company."""
    first = {table.keys[index]: index for index in reversed(chunk) if table.keys[index] in table.missing}
    return [index for index in chunk if first.get(table.keys[index]) == index]


def _score(
    model: PairModel,
    pairs: Sequence[TokenizedPair],
    chunk: Sequence[int],
    keys: dict[int, bytes],
    cache: TrunkCache,
) -> Shard:
    """Score some pairs in one pass, or in halves where memory does not suffice."""
    try:
        batch = model.collate([pair_group(pairs[index]) for index in chunk])
        token_logps = model(batch, trunk_output(model, batch, chunk, cache)).float().cpu()
        counts = torch.bincount(batch.sequence_index.cpu(), minlength=batch.num_sequences)
        return Shard(_key_tensor(chunk, keys), counts.int().reshape(-1, 2), token_logps)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(chunk) == 1 or model.sharded:
            raise
    release_memory()  # outside of `except`, where the error would hold on to what is to be freed
    middle = len(chunk) // 2
    return _joined([_score(model, pairs, half, keys, cache) for half in (chunk[:middle], chunk[middle:])])


def _key_tensor(indices: Sequence[int], keys: dict[int, bytes]) -> Tensor:
    flat = bytearray(b"".join(keys[index] for index in indices))
    return torch.frombuffer(flat, dtype=torch.uint8).reshape(len(indices), -1)


def _joined(shards: Sequence[Shard]) -> Shard:
    return Shard(*(torch.cat([getattr(shard, name) for shard in shards]) for name in vars(shards[0])))


@torch.no_grad()
def _spot_check(
    model: PairModel, pairs: Sequence[TokenizedPair], table: _Table, micro_batch_tokens: int
) -> SpotCheck:
    """Score a few of the pairs that the store gave, without any cache, and compare."""
    known = (index for index, key in table.keys.items() if key not in table.missing)
    drawn = heapq.nsmallest(
        SPOT_CHECK_PAIRS, known, key=lambda index: hashlib.sha256(b"spot check" + table.keys[index]).digest()
    )
    parts = split_by_tokens([pair_group(pairs[index]).num_packed_tokens for index in drawn], micro_batch_tokens)
    differences = [
        _difference(_score(model, pairs, chunk, table.keys, TrunkCache(0)), table, chunk, model.precision)
        for chunk in ([drawn[place] for place in part] for part in parts)
    ]
    largest = max(differences)
    return SpotCheck(len(drawn), largest, largest <= 1)


def _difference(shard: Shard, table: _Table, chunk: Sequence[int], precision: str) -> float:
    """Largest difference of a response's sum as a share of what is allowed; infinite when one is no number."""
    new, stored = shard.sums(table.ld_alpha), table.sums[list(chunk)]
    allowed = _FP32_TOLERANCE * new.abs().clamp(min=1)
    if precision == "bf16":
        allowed = _BF16_TOKEN_NATS * shard.lengths.clamp(min=1).sqrt()
    same = (new == stored) | (new.isnan() & stored.isnan())  # a poisoned model's sums are no numbers, rightly
    shares = ((new - stored).abs() / allowed).masked_fill(same, 0)
    return float(shares.nan_to_num(nan=float("inf"), posinf=float("inf")).max())
