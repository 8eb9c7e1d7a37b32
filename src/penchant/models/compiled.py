"""Layers compiled by torch, once for all lengths of a packed row. Off unless asked for.

Three things keep it at one compilation: the length is a symbol (`dynamic=True`), the row is filled up to whole
buckets, and the attention, which differs from row to row, is never compiled: every graph ends where a layer asks
for it. All layers run the same code, so that what was compiled for the first serves the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from penchant.models.attention import Attend
from penchant.models.freeze import layers
from penchant.models.trunk import Part, run_part

BUCKET_ROWS = 256


def compiled_part(part: Part, backend: str | Callable[..., Any] = "inductor") -> Part:
    """Return the part with layers that are compiled when they are first called, for `run_compiled`.

    Args:
        part: From `penchant.models.trunk.split_decoder`.
        backend: What torch is to compile with.
    """
    module = copy.copy(part.module)
    module._modules = dict(module._modules)
    module._modules["layers"] = nn.ModuleList(_compiled_layer(layer, backend) for layer in layers(part.module))
    return replace(part, module=module)


def _compiled_layer(layer: nn.Module, backend: str | Callable[..., Any]) -> nn.Module:
    copied: Any = copy.copy(layer)
    copied.forward = torch.compile(layer.forward, dynamic=True, backend=backend)
    return copied


def run_compiled(part: Part, inputs: Tensor, positions: Tensor, attend: Attend, *, embed: bool = False) -> Tensor:
    """Return what `penchant.models.trunk.run_part` gives, for a part from `compiled_part`.

    The row is filled up with rows of zeros that neither attend nor are attended to.
    """
    rows = positions.shape[1]
    extra = -rows % BUCKET_ROWS
    filled = pad(inputs, (0, extra)) if embed else pad(inputs, (0, 0, 0, extra))
    return run_part(part, filled, pad(positions, (0, extra)), Uncompiled(attend, rows), embed=embed)[:rows]


@dataclass(frozen=True, eq=False)
class Uncompiled:
    """The attention of a filled-up row, as compiled layers may call it: they do not look inside.

    Attributes:
        attend: The attention of the row.
        rows: Its length.
    """

    attend: Attend
    rows: int

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Return the attention output of all rows, zero for those that fill up, shape (1, queries, heads, d)."""
        return _attend(self, query, key, value, scale)


def _attend_rows(this: Uncompiled, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    rows = slice(this.rows)
    found = this.attend(query[:, :, rows], key[:, :, rows], value[:, :, rows], scale)
    return pad(found, (0, 0, 0, 0, 0, query.shape[2] - this.rows))


_attend: Any = torch.compiler.disable(_attend_rows)
