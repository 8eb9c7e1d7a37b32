"""One module a micro-step: from a batch to its loss, or to the log-probability of every scored token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from penchant.batching.attention_plan import Block, blocks, query_rows
from penchant.batching.pair_batch import Group, PairBatch, pack_groups, pad_groups
from penchant.models.attention import Attend, packed_attention
from penchant.models.checkpointing import recomputed_model, recomputed_part
from penchant.models.compiled import compiled_part, run_compiled
from penchant.models.freeze import decoder, head, layers
from penchant.models.memory import page_out, release_memory
from penchant.models.precision import Precision, autocast_to, compute_in
from penchant.models.trunk import Part, disable_dropout, rounded_part, run_part, run_pruned_layer, split_decoder
from penchant.objective.head import (
    Head,
    PairLosses,
    PairObjective,
    losses_by_autograd,
    pair_losses_once,
    token_agreement,
    token_logps,
    token_logps_by_autograd,
)


class PairModel(nn.Module):
    """A policy that scores groups: frozen trunk, trained top, and head.

    With `prefix_sharing` groups are packed, the prompt once, and the parts of the decoder run one after the
    other. Without it every response is a sequence of its own through the model's plain forward: the slow twin,
    and the way for architectures whose attention cannot share a prefix.

    Args:
        model: The policy.
        trunk_layers: Decoder layers whose outputs never change, see `penchant.models.freeze.frozen_layers`.
        prefix_sharing: Whether groups are packed.
        precision: What matrix products are computed in.
        pad_id: Fills the rows when groups are not packed.
        head_once: Whether the head's gradients are made in its forward pass, some pairs at a time.
        last_layer_pruning: Whether prompts serve the last layer as keys and values only.
        attention: The kernel for packed rows: sdpa, varlen or flex.
        checkpointing: Whether trained layers are computed again in the backward pass instead of keeping what it
            needs; not the pruned last layer, which alone keeps little.
        compiled: Whether layers are compiled by torch, again without the pruned last one. Packed groups only.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        trunk_layers: int,
        prefix_sharing: bool,
        precision: Precision,
        pad_id: int,
        head_once: bool = True,
        last_layer_pruning: bool = True,
        attention: str = "sdpa",
        checkpointing: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        disable_dropout(model)
        self.model = model
        self.precision: Precision = precision
        self.prefix_sharing = prefix_sharing
        self.pad_id = pad_id
        self.attention = attention
        self.last_layer_pruning = last_layer_pruning
        self.head_once = head_once and prefix_sharing
        self.checkpointing = checkpointing
        self.compiled = compiled and prefix_sharing
        self.trunk_layers = trunk_layers if prefix_sharing else 0
        self.sharded = (
            False  # whether each process holds a part of the weights alone: then all run it equally often
        )
        # outside the module tree: the parts hold parameters that `model` already owns
        self._trunk: Part | None = None
        self._run_trunk: Part | None = None  # the trunk in the form in which it is run
        self._top: list[Part] = []
        self._pruned: Part | None = None
        self._run = run_compiled if self.compiled else run_part
        self._run_separate: Callable[..., Any] = (recomputed_model(model) if checkpointing else model).__call__
        if prefix_sharing:
            self._cut()

    def _cut(self) -> None:
        count = len(layers(decoder(self.model)))
        prune = self.last_layer_pruning and self.trunk_layers < count
        cuts = [self.trunk_layers] * (self.trunk_layers > 0) + [count - 1] * (
            prune and count - 1 > self.trunk_layers
        )
        parts = split_decoder(self.model, cuts)
        # a part that embeds tokens cannot be pruned: it is the whole of a model of one layer
        self._pruned = parts.pop() if prune and len(parts) > 1 else None
        self._trunk = parts.pop(0) if self.trunk_layers else None
        if self.compiled:
            parts = [compiled_part(part) for part in parts]
        self._top = [recomputed_part(part) for part in parts] if self.checkpointing else parts

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
        return self(batch, ask="trunk")

    def _trunk_outputs(self, batch: PairBatch) -> Tensor:
        if self._trunk is None or batch.segments is None:
            raise ValueError("this model has no frozen layers of its own")
        if self._run_trunk is None:
            rounded = self.precision == "bf16" and not self.sharded  # of a shard there is no copy
            part = rounded_part(self._trunk) if rounded else self._trunk
            self._run_trunk = compiled_part(part) if self.compiled else part
        attend = self._attend(batch, blocks(batch.segments))
        with torch.no_grad(), autocast_to(self.precision, self.device):
            return self._run(self._run_trunk, batch.input_ids, batch.position_ids, attend, embed=True)

    def rest_trunk(self) -> None:
        """Let go of the memory that running the frozen layers took; they can be run again, after a while."""
        if self._trunk is not None and not self.sharded:
            self._run_trunk = None
            release_memory()
            page_out([parameter for parameter in self._trunk.module.parameters() if not parameter.requires_grad])

    def forward(
        self,
        batch: PairBatch,
        trunk_output: Tensor | None = None,
        objective: PairObjective | None = None,
        *,
        ask: Literal["scores", "trunk", "agreement"] = "scores",
    ) -> Any:
        """Return the log-probability of every scored token, or with an objective the losses of the pairs.

        The only way in: what shards the weights gathers them where a module is called.

        Args:
            batch: From `collate`.
            trunk_output: What `trunk` gave for it, when that is already known.
            objective: What is to be minimised.
            ask: For something else, see `trunk` and `agreement`.

        Returns:
            Nats, fp32, shape (scored,); or `PairLosses`.
        """
        if ask == "trunk":
            return self._trunk_outputs(batch)
        if ask == "agreement":
            return self._agreement(batch, trunk_output)
        if not self.prefix_sharing:
            logps = self._separate(batch)
            return logps if objective is None else losses_by_autograd(logps, batch, objective)
        hidden = self._scored_outputs(batch, trunk_output)
        layer = head(self.model)
        top = Head(layer.weight, layer.bias, self.precision)
        if objective is not None and self.head_once:
            return pair_losses_once(hidden, top, batch, objective)
        if objective is None and not torch.is_grad_enabled():
            return token_logps(hidden, top, batch)
        logps = token_logps_by_autograd(hidden, top, batch.target_ids)
        return logps if objective is None else losses_by_autograd(logps, batch, objective)

    @torch.no_grad()
    def agreement(self, batch: PairBatch, trunk_output: Tensor | None = None) -> Tensor:
        """Return how much likelier each scored token is than one drawn from the policy, see `token_agreement`."""
        return self(batch, trunk_output, ask="agreement")

    def _agreement(self, batch: PairBatch, trunk_output: Tensor | None) -> Tensor:
        if not self.prefix_sharing:
            logps = self._separate_log_softmax(batch)
            own = logps.gather(-1, batch.target_ids[:, None]).squeeze(-1)
            return own - (2 * logps).logsumexp(dim=-1)
        layer = head(self.model)
        top = Head(layer.weight, layer.bias, self.precision)
        return token_agreement(self._scored_outputs(batch, trunk_output), top, batch)

    def losses(self, batch: PairBatch, objective: PairObjective, trunk_output: Tensor | None = None) -> PairLosses:
        """Return the losses of a micro-batch of pairs; `total` is to be differentiated in `compute_in`."""
        return self(batch, trunk_output, objective)

    def _scored_outputs(self, batch: PairBatch, trunk_output: Tensor | None) -> Tensor:
        """Outputs of the final norm at the positions that predict a scored token, shape (scored, width)."""
        if batch.segments is None:
            raise ValueError("a padded batch was given to a model that shares prefixes")
        attend = self._attend(batch, blocks(batch.segments))
        rows, embed = batch.input_ids, True
        if self._trunk is not None:
            rows, embed = (self._trunk_outputs(batch) if trunk_output is None else trunk_output), False
        with compute_in(self.precision, self.device):
            for part in self._top:
                rows, embed = self._run(part, rows, batch.position_ids, attend, embed=embed), False
            if self._pruned is None:
                return rows.index_select(0, batch.predict_index)
            return self._pruned_outputs(batch, rows)

    def _attend(self, batch: PairBatch, these: Sequence[Block]) -> Attend:
        return packed_attention(self.attention, these, batch.num_tokens, self.device)

    def _pruned_outputs(self, batch: PairBatch, rows: Tensor) -> Tensor:
        wanted = blocks(batch.segments or (), batch.first_query)
        asked = query_rows(wanted)
        place = torch.full((batch.num_tokens,), -1)
        place[asked] = torch.arange(len(asked))
        others = (place < 0).nonzero().squeeze(-1)
        moved = [tensor.to(self.device) for tensor in (asked, others, place)]
        attend = self._attend(batch, wanted)
        outputs = run_pruned_layer(self._pruned, rows, batch.position_ids, moved[0], moved[1], attend)  # type: ignore[arg-type]
        return outputs.index_select(0, moved[2].index_select(0, batch.predict_index))

    def _separate(self, batch: PairBatch) -> Tensor:
        return self._separate_log_softmax(batch).gather(-1, batch.target_ids[:, None]).squeeze(-1)

    def _separate_log_softmax(self, batch: PairBatch) -> Tensor:
        width = batch.input_ids.shape[1]
        row, column = batch.predict_index // width, batch.predict_index % width
        first = int(column.min())
        with compute_in(self.precision, self.device):
            logits = self._run_separate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
                logits_to_keep=width - first,
            ).logits
        scores = logits[row, column - first].float()
        return torch.log_softmax(scores, dim=-1)
