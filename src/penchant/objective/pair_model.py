"""One module a micro-step: from a batch to the log-probability of every scored token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from penchant.batching.pair_batch import Group, PairBatch, pack_groups, pad_groups
from penchant.models.attention import PREFIX_ATTENTION
from penchant.models.freeze import decoder, head
from penchant.models.precision import Precision, compute_in
from penchant.models.trunk import disable_dropout, split_decoder
from penchant.objective.logps import head_token_logps


class PairModel(nn.Module):
    """A policy that scores groups: frozen trunk, trained top, and head.

    With `prefix_sharing` groups are packed, the prompt once, and the two halves of the decoder run one after the
    other. Without it every response is a sequence of its own through the model's plain forward: the slow twin,
    and the way for architectures whose attention cannot share a prefix.

    Args:
        model: The policy.
        trunk_layers: Decoder layers whose outputs never change, see `penchant.models.freeze.frozen_layers`.
        prefix_sharing: Whether groups are packed.
        precision: What matrix products are computed in.
        pad_id: Fills the rows when groups are not packed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        trunk_layers: int,
        prefix_sharing: bool,
        precision: Precision,
        pad_id: int,
    ) -> None:
        super().__init__()
        disable_dropout(model)
        self.model = model
        self.precision: Precision = precision
        self.prefix_sharing = prefix_sharing
        self.pad_id = pad_id
        self.trunk_layers = trunk_layers if prefix_sharing else 0
        # outside the module tree: both halves hold parameters that `model` already owns
        self._halves = split_decoder(model, self.trunk_layers) if prefix_sharing else None

    @property
    def device(self) -> str:
        """Where the model's weights are."""
        return str(self.model.device)

    def collate(self, groups: Sequence[Group]) -> PairBatch:
        """Return the batch of some groups in this model's layout, on its device."""
        batch = pack_groups(groups) if self.prefix_sharing else pad_groups(groups, self.pad_id)
        return batch.to(self.device)

    @torch.no_grad()
    def trunk(self, batch: PairBatch) -> Tensor:
        """Return the frozen layers' outputs for a packed batch, shape (tokens, width), without gradient."""
        return self._run(0, batch, input_ids=batch.input_ids)[0]

    def forward(self, batch: PairBatch, trunk_output: Tensor | None = None) -> Tensor:
        """Return the log-probability of every scored token, nats, fp32, shape (scored,).

        Args:
            batch: From `collate`.
            trunk_output: What `trunk` gave for it, when that is already known.
        """
        if self._halves is None:
            return self._separate(batch)
        if self.trunk_layers == 0:
            hidden = self._run(1, batch, input_ids=batch.input_ids)
        else:
            lower = self.trunk(batch) if trunk_output is None else trunk_output
            hidden = self._run(1, batch, inputs_embeds=lower[None])
        layer = head(self.model)
        rows = hidden[0].index_select(0, batch.predict_index)
        return head_token_logps(rows, layer.weight, layer.bias, batch.target_ids, self.precision)

    def _run(self, half: int, batch: PairBatch, **inputs: Tensor) -> Tensor:
        part: Any = self._halves[half]  # type: ignore[index]
        with _attention(part, self.model), compute_in(self.precision, self.device):
            return part(
                **inputs,
                position_ids=batch.position_ids,
                use_cache=False,
                prefix_segments=batch.segments,
            ).last_hidden_state

    def _separate(self, batch: PairBatch) -> Tensor:
        width = batch.input_ids.shape[1]
        row, column = batch.predict_index // width, batch.predict_index % width
        first = int(column.min())
        with compute_in(self.precision, self.device):
            logits = self.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
                logits_to_keep=width - first,
            ).logits
        scores = logits[row, column - first].float()
        return torch.log_softmax(scores, dim=-1).gather(-1, batch.target_ids[:, None]).squeeze(-1)


@contextlib.contextmanager
def _attention(part: PreTrainedModel, model: PreTrainedModel) -> Iterator[None]:
    """Let the layers attend over the packed row; afterwards the model is as it was, fit to generate."""
    configs = {id(config): config for config in (part.config, decoder(model).config, model.config)}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = PREFIX_ATTENTION
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
