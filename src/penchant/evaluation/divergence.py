"""How far the policy has moved from the reference on text that has nothing to do with the task."""

from __future__ import annotations

import math
from importlib.resources import files

import torch
from torch import Tensor

from penchant.models.load import LoadedModel


@torch.inference_mode()
def divergence_figures(policy: LoadedModel, reference: LoadedModel) -> dict[str, float]:
    """Return KL(policy || reference) in nats per token, and both perplexities, on packaged ordinary prose.

    The KL is the exact sum over the vocabulary at every position, averaged over positions, in float32.
    """
    divergence = tokens = 0.0
    losses = {"policy": 0.0, "reference": 0.0}
    for paragraph in ordinary_paragraphs():
        ids = torch.tensor([reference.tokenizer(paragraph, add_special_tokens=False).input_ids])
        ours, theirs = _log_probabilities(policy, ids), _log_probabilities(reference, ids)
        divergence += float((ours.exp() * (ours - theirs)).sum())
        targets = ids[0, 1:, None]
        losses["policy"] -= float(ours[:-1].cpu().gather(-1, targets).sum())
        losses["reference"] -= float(theirs[:-1].cpu().gather(-1, targets).sum())
        tokens += ids.shape[1]
    predicted = tokens - len(ordinary_paragraphs())
    return {
        "kl_to_reference": divergence / tokens,
        "perplexity_policy": math.exp(losses["policy"] / predicted),
        "perplexity_reference": math.exp(losses["reference"] / predicted),
    }


def ordinary_paragraphs() -> list[str]:
    """Return the packaged prose, paragraph by paragraph."""
    text = files("penchant.evaluation").joinpath("ordinary_text.txt").read_text(encoding="utf-8")
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]


def _log_probabilities(loaded: LoadedModel, ids: Tensor) -> Tensor:
    logits = loaded.model(input_ids=ids.to(loaded.model.device), use_cache=False).logits[0]
    return torch.log_softmax(logits.float(), dim=-1)
