"""A whole model over a packed row, with one attention kernel or another in every layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Group, pack_groups
from penchant.models.attention_check import Kernel

NAME = "kernel_of_the_test"


def packed_token_logps(model: PreTrainedModel, groups: list[Group], kernel: Kernel) -> Tensor:
    """The log-probability of every response token, fp32, the prompt computed once."""
    batch = pack_groups(groups).to(model.device)
    assert batch.segments is not None
    plan = kernel.plan(blocks(batch.segments), batch.num_tokens, str(model.device))

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        assert mask is None
        return kernel.attend(query, key, value, plan, scaling).transpose(1, 2), None

    with _attention(model, attend):
        scores = model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits[0]
    rows = torch.log_softmax(scores[batch.predict_index].float(), dim=-1)
    return rows.gather(-1, batch.target_ids[:, None])[:, 0]


@contextlib.contextmanager
def _attention(model: PreTrainedModel, function: Callable[..., Any]) -> Iterator[None]:
    before = model.config._attn_implementation
    AttentionInterface.register(NAME, function)
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
