"""DPO as a textbook has it: two whole models, one sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tests.tiny import plain_token_logps
from torch import Tensor
from transformers import PreTrainedModel

from penchant.batching.pair_batch import Group
from penchant.types import TokenizedPair


def dpo_loss(
    policy: PreTrainedModel, reference: PreTrainedModel, pairs: Sequence[TokenizedPair], *, beta: float = 0.1
) -> Tensor:
    """The mean loss of some pairs: Rafailov et al. 2023 (arXiv:2305.18290), Eq. 7."""
    losses = []
    for pair in pairs:
        ratios = []
        for response in (pair.chosen_ids, pair.rejected_ids):
            with torch.no_grad():
                start = _summed(reference, pair, response)
            ratios.append(_summed(policy, pair, response) - start)
        losses.append(-torch.nn.functional.logsigmoid(beta * (ratios[0] - ratios[1])))
    return torch.stack(losses).mean()


def _summed(model: PreTrainedModel, pair: TokenizedPair, response: tuple[int, ...]) -> Tensor:
    return plain_token_logps(model, [Group(pair.prompt_ids, (response,))]).sum()
