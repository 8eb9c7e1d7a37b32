"""The processes of one run: how many there are, which one this is, and what they tell one another.

`torchrun` starts them. Without it there is one process, and everything here is at once what it alone has: nothing
above has to ask whether it runs alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")

# One process may tokenize, read or write alone while the others wait. When one ends, torchrun ends them all, so
# this is no guard against waiting for the dead.
_PATIENCE = timedelta(hours=2)


def started_together() -> bool:
    """Return whether torchrun, or what sets the same variables, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Return the number of this process among those of its machine, from 0: the accelerator that is its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Join the processes that were started together, for the time of the body; alone this does nothing.

    Tensors on a CPU travel by gloo, those on CUDA devices by NCCL. After an error the group is left as it is: to
    take it down in order would wait for processes that may be gone.
    """
    if not started_together() or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=_PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    yield
    dist.destroy_process_group()


def world_size() -> int:
    """Return how many processes there are, at least 1."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Return whether this is the process that writes and speaks for all."""
    return rank() == 0


def wait_for_all() -> None:
    """Return when all processes have come here."""
    if world_size() > 1:
        dist.barrier()


@contextlib.contextmanager
def first_one_first() -> Iterator[None]:
    """Let the first process do the body alone, and then the others: they find what it has stored."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def total(own: Tensor) -> Tensor:
    """Return the sum over all processes, in place; every process has a tensor of the same shape."""
    if world_size() > 1:
        dist.all_reduce(own)
    return own


def largest(own: Tensor) -> Tensor:
    """Return the largest over all processes, element by element, in place."""
    if world_size() > 1:
        dist.all_reduce(own, dist.ReduceOp.MAX)
    return own


def most(own: int) -> int:
    """Return the largest of the processes' numbers."""
    return int(largest(torch.tensor(own))) if world_size() > 1 else own


def any_of(own: bool) -> bool:
    """Return whether it is so in one of the processes at least."""
    return bool(most(int(own)))


def all_of(own: bool) -> bool:
    """Return whether it is so in every process."""
    return not any_of(not own)


def joined(own: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the rows of all processes one after the other, shape (sum of counts, ...).

    Args:
        own: This process's rows, shape (counts[rank], ...).
        counts: How many rows each process has; everyone must know.
    """
    if world_size() == 1:
        return own
    padded = own.new_zeros(max(counts), *own.shape[1:])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def of_first(own: Tensor) -> Tensor:
    """Return the first process's tensor, in place; every process has one of the same shape."""
    if world_size() > 1:
        dist.broadcast(own, 0)
    return own


def told_by_all(own: Value) -> list[Value]:
    """Return what every process has, in their order. It travels pickled, between processes of one run only."""
    if world_size() == 1:
        return [own]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, own)
    return found


def done_by_first(action: Callable[[], Value]) -> Value:
    """Return what an action gives in the first process, which alone does it; its error is everybody's."""
    if world_size() == 1:
        return action()
    found: Any = None
    if is_first():
        try:
            found = (action(), None)
        except Exception as error:
            found = (None, error)
    value, failure = told_by_first(found)
    if failure is not None:
        raise failure
    return value


def told_by_first(own: Value) -> Value:
    """Return what the first process has."""
    if world_size() == 1:
        return own
    found: list[Any] = [own]
    dist.broadcast_object_list(found)
    return found[0]
