"""The vocabulary head: from hidden states to log-probabilities, and in training straight to loss and gradients.

Only positions that predict a scored token come here. Scores are fp32 and so is the log-sum-exp, whatever the
factors of the matrix product were rounded to. The scores of a micro-batch never exist at once: `pair_losses_once`
takes some pairs at a time, and because the loss of a pair needs nothing but its own two sums, it knows at once
how each row's gradient weighs, and the scores need not be kept or computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from penchant.batching.packing import split_by_tokens
from penchant.batching.pair_batch import GroupSize, PairBatch
from penchant.models.precision import Precision, compute_in
from penchant.objective.logps import PairLogps, beyond_shorter, pair_logps, sequence_sums

# Scores of so many bytes exist at a time. On a CPU larger blocks gain nothing; a GPU wants large products.
_SCORE_BYTES = {"cpu": 96 << 20, "cuda": 1 << 30, "mps": 256 << 20}


@dataclass(frozen=True)
class Head:
    """The layer that turns hidden states into vocabulary scores.

    Attributes:
        weight: Shape (vocab, width).
        bias: Shape (vocab,), or None.
        precision: bf16 rounds the factors of its products to bf16; sums are fp32 all the same.
    """

    weight: Tensor
    bias: Tensor | None
    precision: Precision

    @property
    def block_rows(self) -> int:
        """Rows whose scores exist at a time, at least one."""
        allowed = _SCORE_BYTES.get(self.weight.device.type, 96 << 20)
        return max(1, allowed // (self.weight.element_size() * len(self.weight)))


@dataclass(frozen=True)
class PairObjective:
    """What is minimised over a micro-batch: the weighted sum of the losses of its pairs.

    Attributes:
        losses_of: From the policy's log-probabilities of some pairs and the places of these pairs in the
            micro-batch, shape (pairs,), to their losses, shape (pairs,). The loss of a pair depends on no other.
        weights: Of each pair in the sum, shape (pairs,).
        ld_alpha: Weight of the tokens beyond a pair's shorter response, see `beyond_shorter`; None = 1.
    """

    losses_of: Callable[[PairLogps, Tensor], Tensor]
    weights: Tensor
    ld_alpha: float | None = None


class PairLosses(NamedTuple):
    """What a micro-batch came to; a tuple, in which every kind of data parallelism finds what is differentiated.

    Attributes:
        total: The weighted sum, a scalar to be differentiated.
        losses: Of each pair, shape (pairs,), without gradient.
        logps: Of each pair under the policy, without gradient.
    """

    total: Tensor
    losses: Tensor
    logps: PairLogps


@torch.no_grad()
def token_logps(hidden: Tensor, head: Head, batch: PairBatch) -> Tensor:
    """Return the log-probability of each scored token, nats, fp32, shape (scored,), without gradient.

    The rows share products exactly as in `pair_losses_once`, so both give the same bits.

    Args:
        hidden: Outputs of the final norm for the scored tokens, shape (scored, width).
        head: The head.
        batch: Whose tokens they are.
    """
    products = _Products(head)
    found = [hidden.new_empty(0, dtype=head.weight.dtype)]
    for block in _blocks(batch, head.block_rows):
        for rows in block.parts(head.block_rows):
            found.append(_softmax_in_place(products.scores(hidden[rows]), batch.target_ids[rows]))
    return torch.cat(found)


@torch.no_grad()
def token_agreement(hidden: Tensor, head: Head, batch: PairBatch) -> Tensor:
    """Return log p(token) - log sum over the vocabulary of p^2 of each scored token, nats, fp32, shape (scored,).

    Zero on average for tokens drawn from the policy itself: Zhou et al. 2024 (arXiv:2406.11827), Sec. 3.2.
    """
    products = _Products(head)
    found = [hidden.new_empty(0, dtype=head.weight.dtype)]
    for block in _blocks(batch, head.block_rows):
        for rows in block.parts(head.block_rows):
            scores = products.scores(hidden[rows])
            logps = _softmax_in_place(scores, batch.target_ids[rows])
            found.append(logps - scores.square_().sum(dim=-1).log())
    return torch.cat(found)


def token_logps_by_autograd(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """Return what `token_logps` gives, but differentiable: all scores at once, the slow twin."""
    with compute_in(head.precision, str(hidden.device)):
        scores = torch.nn.functional.linear(hidden, head.weight, head.bias).to(head.weight.dtype)
    return torch.log_softmax(scores, dim=-1).gather(-1, targets[:, None]).squeeze(-1)


def losses_by_autograd(logps: Tensor, batch: PairBatch, objective: PairObjective) -> PairLosses:
    """Return the losses of a micro-batch from its token log-probabilities, which torch differentiates."""
    policy = pair_logps(logps, batch, objective.ld_alpha)
    losses = objective.losses_of(policy, torch.arange(len(batch.pairs), device=logps.device))
    detached = PairLogps(
        policy.chosen.detach(), policy.rejected.detach(), policy.chosen_tokens, policy.rejected_tokens
    )
    return PairLosses((objective.weights * losses).sum(), losses.detach(), detached)


def pair_losses_once(hidden: Tensor, head: Head, batch: PairBatch, objective: PairObjective) -> PairLosses:
    """Return the losses of a micro-batch; what the head owes its inputs is computed on the way.

    Args:
        hidden: Outputs of the final norm for the scored tokens, shape (scored, width).
        head: The head.
        batch: Of pairs.
        objective: What is minimised.
    """
    total, losses, *logps = cast(
        "tuple[Tensor, ...]",
        _HeadOnce.apply(hidden, head.weight, head.bias, head.precision, batch, objective, torch.is_grad_enabled()),
    )
    return PairLosses(total, losses, PairLogps(*logps))


class _HeadOnce(torch.autograd.Function):
    """Sum of weighted pair losses; gradients are made in the forward pass and scaled in the backward pass.

    d logp(t) / d score = onehot(t) - p, so with c the slope of the sum in a row's log-probability, the row adds
    c (W[t] - p W) to the gradient of its hidden state and c h to row t of the weight's, minus p's share of c h to
    all its rows. c multiplies vectors of the model's width only, never a row of the vocabulary's.

    A bare `.backward()` in here would write gradients behind the back of data parallelism; returned from
    `backward` they are reduced over ranks like all others.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        precision: Precision,
        batch: PairBatch,
        objective: PairObjective,
        differentiable: bool,
    ) -> tuple[Tensor, ...]:
        wanted = [needed and differentiable for needed in ctx.needs_input_grad[:3]]
        into = [
            torch.zeros_like(tensor, memory_format=torch.contiguous_format)
            if want and tensor is not None
            else None
            for want, tensor in zip(wanted, (hidden, weight, bias), strict=True)
        ]
        walk = _Walk(Head(weight, bias, precision), hidden, batch, objective, into)
        total, losses, columns = walk.through()
        ctx.into = into
        ctx.mark_non_differentiable(losses, *columns)
        return total, losses, *columns

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        into, ctx.into = ctx.into, None  # handed over, not copied: they are as large as the head
        if into is None:
            raise RuntimeError("the head's backward can run once only")
        scale = grads[0]
        if scale.device.type != "cpu" or float(scale) != 1:  # a GPU must not wait for the question
            for grad in into:
                if grad is not None:
                    grad.mul_(scale)
        return *into, None, None, None, None


class _Products:
    """Products with the head's weight, whose factors are rounded where the precision says so."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.half = head.precision == "bf16" and head.weight.is_cuda
        self.weight = head.weight.detach().bfloat16() if self.half else head.weight.detach()
        self._place: Tensor | None = None

    def product(self, one: Tensor, other: Tensor, out: Tensor | None = None) -> Tensor:
        """Return one @ other, summed in fp32 (or what the weight is in), in `out` if given."""
        if self.half:
            return torch.mm(one.bfloat16(), other.bfloat16(), out_dtype=torch.float32)
        device, dtype = one.device, self.weight.dtype
        with torch.autocast(device.type, enabled=False), compute_in(self.head.precision, str(device)):
            return torch.mm(one.to(dtype), other.to(dtype), out=out)

    def subtract_product(self, into: Tensor, one: Tensor, other: Tensor) -> None:
        """Subtract one @ other from `into`."""
        if self.half:
            into.sub_(self.product(one, other))
            return
        with torch.autocast(one.device.type, enabled=False), compute_in(self.head.precision, str(one.device)):
            into.addmm_(one.to(into.dtype), other.to(into.dtype), alpha=-1)

    def scores(self, hidden: Tensor) -> Tensor:
        """Return the scores of some rows, shape (rows, vocab); they hold until the next are asked for."""
        # fresh pages for every block would cost as much as a pass over them
        if not self.half and self._place is None:
            self._place = hidden.new_empty(self.head.block_rows, len(self.weight), dtype=self.weight.dtype)
        place = None if self._place is None else self._place[: len(hidden)]
        scores = self.product(hidden.detach(), self.weight.T, out=place)
        return scores if self.head.bias is None else scores.add_(self.head.bias.detach())


def _softmax_in_place(scores: Tensor, targets: Tensor) -> Tensor:
    """Turn scores into probabilities; return the log-probability of each target, shape (rows,)."""
    at_target = scores.gather(-1, targets[:, None]).squeeze(-1)
    highest = scores.amax(dim=-1)
    torch.softmax(scores, dim=-1, out=scores)
    # the largest probability is exp(0) over the sum; never the log of the target's own, which may be zero
    return at_target - highest + scores.amax(dim=-1).log()


class _Walk:
    """One way through the scored rows of a micro-batch, some whole groups at a time."""

    def __init__(
        self, head: Head, hidden: Tensor, batch: PairBatch, objective: PairObjective, into: list[Tensor | None]
    ) -> None:
        self.products = _Products(head)
        self.most = head.block_rows
        self.hidden, self.batch, self.objective, self.into = hidden.detach(), batch, objective, into

    def through(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the sum, the losses and the four columns of the log-probabilities; gradients go `into`."""
        totals, losses, columns = zip(
            *(self._block(block) for block in _blocks(self.batch, self.most)), strict=True
        )
        return (
            torch.stack(totals).sum(),
            torch.cat(losses),
            [torch.cat(part) for part in zip(*columns, strict=True)],
        )

    def _block(self, block: _Block) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        parts = block.parts(self.most)
        probabilities = self.hidden[:0]
        logps: list[Tensor] = []
        for rows in parts:
            probabilities = self.products.scores(self.hidden[rows])
            logps.append(_softmax_in_place(probabilities, self.batch.target_ids[rows]))
        total, losses, columns, slopes = self._slopes(torch.cat(logps), block)
        if any(grad is not None for grad in self.into):
            for rows in parts:
                if len(parts) > 1:  # a group larger than a block is gone through twice
                    probabilities = self.products.scores(self.hidden[rows])
                    _softmax_in_place(probabilities, self.batch.target_ids[rows])
                self._gradients(rows, probabilities, slopes[rows.start - block.rows.start :][: len(probabilities)])
        return total, losses, columns

    def _slopes(self, logps: Tensor, block: _Block) -> tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor]:
        """Loss sum, losses and log-probabilities of a block's pairs, and the sum's slope in each row's."""
        sequence = self.batch.sequence_index[block.rows] - block.sequences.start
        count = block.sequences.stop - block.sequences.start
        alpha, weights = self.objective.ld_alpha, None
        if alpha is not None:
            lengths = torch.bincount(sequence, minlength=count)
            pairs = self.batch.pairs[block.pairs] - block.sequences.start
            weights = beyond_shorter(lengths[pairs], alpha).to(logps.dtype)
        sums, counts = sequence_sums(logps if weights is None else weights * logps, sequence, count)
        chosen, rejected = (self.batch.pairs[block.pairs] - block.sequences.start).unbind(1)
        places = torch.arange(block.pairs.start, block.pairs.stop, device=logps.device)
        with torch.enable_grad():
            sums.requires_grad_()
            policy = PairLogps(sums[chosen], sums[rejected], counts[chosen], counts[rejected])
            losses = self.objective.losses_of(policy, places)
            total = (self.objective.weights[block.pairs] * losses).sum()
        (slope,) = torch.autograd.grad(total, sums)
        columns = tuple(value.detach() for value in vars(policy).values())
        slopes = slope[sequence] if weights is None else weights * slope[sequence]
        return total.detach(), losses.detach(), columns, slopes

    def _gradients(self, rows: slice, probabilities: Tensor, slopes: Tensor) -> None:
        into_hidden, into_weight, into_bias = self.into
        targets, weigh = self.batch.target_ids[rows], slopes[:, None]
        if into_hidden is not None:
            own = self.products.weight.index_select(0, targets).to(weigh.dtype)
            into_hidden[rows] = weigh * (own - self.products.product(probabilities, self.products.weight))
        if into_weight is not None:
            weighed = weigh * self.hidden[rows].to(weigh.dtype)
            self.products.subtract_product(into_weight, probabilities.T, weighed)
            into_weight.index_add_(0, targets, weighed.to(into_weight.dtype))
        if into_bias is not None:
            into_bias.sub_(slopes @ probabilities).index_add_(0, targets, slopes)


@dataclass(frozen=True)
class _Block:
    """Some neighbouring groups: their scored rows, sequences and pairs."""

    rows: slice
    sequences: slice
    pairs: slice

    def parts(self, most: int) -> list[slice]:
        """Return its rows in parts of at most `most`."""
        starts = range(self.rows.start, self.rows.stop, most)
        return [slice(start, min(start + most, self.rows.stop)) for start in starts]


def _blocks(batch: PairBatch, most: int) -> Iterator[_Block]:
    """Whole groups, as many as have `most` rows together; one group alone may have more."""
    at = GroupSize(0, 0, 0)
    parts = split_by_tokens([size.rows for size in batch.sizes], most)
    for part in parts:
        end = GroupSize(
            *(
                a + sum(column)
                for a, column in zip(at, zip(*(batch.sizes[place] for place in part), strict=True), strict=True)
            )
        )
        yield _Block(*(slice(a, b) for a, b in zip(at, end, strict=True)))
        at = end
