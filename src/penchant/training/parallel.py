"""How the processes of a run share one model: every one has all of it (DDP), or a part of its weights (FSDP2).

The loss of a step is one sum over the pairs of all processes, each pair weighed by the whole step. So gradients
are added up over the processes and never averaged, and a step is the same step for any number of them.

DDP: Li et al. 2020 (arXiv:2006.15704). FSDP: Zhao et al. 2023 (arXiv:2304.11277), in torch's second form,
`fully_shard`; hybrid (a copy of the model for every group of processes, sharded within it) as in their Sec. 3.2.2.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from penchant.config import Config
from penchant.errors import UsageError, did_you_mean
from penchant.models.freeze import decoder, layers
from penchant.objective.pair_model import PairModel
from penchant.processes import is_first, total, world_size

KINDS = ("ddp", "fsdp")
_FORM = re.compile(r"(?P<kind>[a-z]+)(:(?P<shards>[1-9]\d*))?")


@dataclass(frozen=True)
class ParallelMode:
    """How processes share a model.

    Attributes:
        kind: ddp or fsdp.
        shards: For fsdp how many processes share one copy of the model; None: all of them.
    """

    kind: Literal["ddp", "fsdp"] = "ddp"
    shards: int | None = None

    def __str__(self) -> str:
        return self.kind if self.shards is None else f"{self.kind}:{self.shards}"


ONE_COPY_EACH = ParallelMode()


def parse_mode(text: str) -> ParallelMode:
    """Return the mode that a word of the command line names: ddp, fsdp, or fsdp:4.

    Raises:
        UsageError: It names none.
    """
    found = _FORM.fullmatch(text)
    if found is not None and found["kind"] == "ddp" and not found["shards"]:
        return ParallelMode("ddp")
    if found is not None and found["kind"] == "fsdp":
        return ParallelMode("fsdp", int(found["shards"]) if found["shards"] else None)
    kind = re.split(r"[:+]", text)[0]
    hint = did_you_mean(kind, KINDS) if kind not in KINDS else ""
    if kind in ("tp", "tensor") or "offload" in text:
        hint = " Tensor parallelism and offloading are not offered."
    raise UsageError(
        f'"{text}" names no way to share a model.{hint}',
        where="--parallel",
        fix="Take ddp (a whole model in every process), fsdp (weights sharded over all processes), or fsdp:N "
        "(over groups of N, a copy for each group).",
    )


def check_mode(mode: ParallelMode, config: Config) -> None:
    """Refuse what several processes cannot do, before anything is loaded.

    Raises:
        UsageError: There are fewer pairs in a step than processes, shards do not divide the processes, or the
            recipe asks for something that shards of weights do not allow.
    """
    count = world_size()
    if config.train.batch_pairs < count:
        raise UsageError(
            f"{config.train.batch_pairs} pairs a step cannot be shared by {count} processes",
            where="train.batch_pairs",
            fix=f"Start at most {config.train.batch_pairs} processes, or take larger steps.",
        )
    if mode.kind == "ddp":
        return
    if mode.shards is not None and count % mode.shards:
        raise UsageError(f"{count} processes are no groups of {mode.shards}", where="--parallel")
    refused = {
        "engine.compile": config.engine.compile,
        "model.load_in_4bit": config.model.load_in_4bit,
        "train.optimizer=adamw_8bit": config.train.optimizer == "adamw_8bit",
        "monitor.generate_every": config.monitor.generate_every is not None,
    }
    for name, asked in refused.items():
        if asked:
            raise UsageError(
                f"{name} needs whole weights in every process, which fsdp does not give it",
                where="--parallel",
                fix=f"Take --parallel ddp, or leave out {name}.",
            )


@dataclass(frozen=True)
class Shared:
    """A model as the processes of a run share it; of one process its own.

    Attributes:
        model: What is run without gradient.
        ddp: What is run with gradient under DDP.
    """

    model: PairModel
    ddp: DistributedDataParallel | None = None

    @contextlib.contextmanager
    def micro_step(self, *, last: bool) -> Iterator[Callable[..., Any]]:
        """Give what is to be called for a micro-step whose backward pass lies within the body.

        Args:
            last: Whether it is this process's last one of the step: then DDP adds up all gradients of the step.
                Shards add up after every micro-step, since whole gradients would need the room that they save.
        """
        if self.ddp is None:
            yield self.model
        else:
            with contextlib.nullcontext() if last else self.ddp.no_sync():
                yield self.ddp


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, in shards or not, a scalar; every process has to ask for it."""
    own = torch.nn.utils.get_total_norm([own_part(gradient) for gradient in gradients])
    in_shards = next((one for one in gradients if isinstance(one, DTensor)), None)
    if in_shards is None:
        return own
    copies = in_shards.device_mesh.size(0) if in_shards.device_mesh.ndim > 1 else 1
    return (total(own.double().square()) / copies).sqrt().to(own.dtype)


def share_model(model: PairModel, mode: ParallelMode) -> Shared:
    """Return the model as all processes share it; alone it is left as it is."""
    if world_size() == 1:
        return Shared(model)
    if mode.kind == "fsdp":
        _shard(model, mode)
        return Shared(model)
    # buffers are functions of the configuration; torch 2.13 has another name for leaving them alone
    known = inspect.signature(DistributedDataParallel).parameters
    alone = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"gradient_as_bucket_view": True, alone: False}
    ddp = DistributedDataParallel(model, **options)
    ddp.register_comm_hook(None, _added)
    return Shared(model, ddp)


def _added(_, bucket):  # type: ignore[no-untyped-def]  # torch compares annotations, and not as text
    """A bucket's gradients added up over the processes: DDP alone would average them."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def _shard(model: PairModel, mode: ParallelMode) -> None:
    """Shard every layer but the last; that one shares a group with embedding, norm and head.

    A pruned last layer is left in the middle of its forward pass (`penchant.models.trunk`), which the hooks of a
    shard of its own would not survive; in the group of the whole module nobody notices.
    """
    mesh = _mesh(model.device, mode)
    for layer in layers(decoder(model.model))[:-1]:
        fully_shard(layer, mesh=mesh)
    # gathered again for the backward pass: what stayed whole after a forward pass without one would go stale
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    model.sharded = True
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def _mesh(device: str, mode: ParallelMode) -> DeviceMesh:
    kind, count = device.split(":", maxsplit=1)[0], world_size()
    if mode.shards is None or mode.shards == count:
        return init_device_mesh(kind, (count,), mesh_dim_names=("shard",))
    copies = count // mode.shards
    return init_device_mesh(kind, (copies, mode.shards), mesh_dim_names=("copy", "shard"))


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: its shard, or all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that may be in shards; every process has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def gathered(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor on the first process's CPU, and nothing of it on the others."""
    found = whole(tensor.detach())
    return found.cpu() if is_first() else found.new_empty(0)


@torch.no_grad()
def put_trained(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy whole weights, by name, into the trained parameters of a model, in shards or not."""
    for name, parameter in trained_parameters(model).items():
        put(parameter, weights[name])


@torch.no_grad()
def put(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be in shards; each process takes its own part of it."""
    if isinstance(tensor, DTensor):
        here = value.to(tensor.device)
        tensor.copy_(distribute_tensor(here, tensor.device_mesh, tensor.placements, src_data_rank=None))
    else:
        tensor.copy_(value)
