"""How probable a text is under a model that is loaded for generation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from penchant.errors import DataError
from penchant.generation.generate import context_tokens
from penchant.types import Answer, Turn
from penchant.web.playground_likelihood import Likelihood
from penchant.workflow.speaker import Speaker

# In bf16 a sum over T tokens is off by 0.075 sqrt(T) nats, measured on the bundled model and one trained from it;
# the same for the difference of the two (docs/playground.md).
_BF16_ROUNDING = 0.075
_ROWS = 64  # of the vocabulary's scores turned to fp32 at a time


@torch.inference_mode()
def likelihood(speaker: Speaker, turns: Sequence[Turn], answer: Answer) -> Likelihood:
    """Return log p(answer | turns), the end token included if the answer ended by itself.

    One pass over the conversation in the precision that the weights have. In bf16 the sum is
    rounded, and by how much is said.

    Args:
        speaker: Whose.
        turns: The conversation, the question last.
        answer: What was said.

    Raises:
        DataError: The conversation is longer than the model's context.
        ModelError: It has no form in this model's format.
    """
    prompt = speaker.chat.prompt_ids(turns)
    ids = speaker.chat.response_ids(turns, answer.text, complete=answer.finished)
    if not ids:
        return Likelihood(0.0, 0)
    if len(prompt) + len(ids) - 1 > context_tokens(speaker.loaded):
        raise DataError("question and answer together are longer than what the model reads", where=speaker.name)
    device = speaker.loaded.model.device
    read = torch.tensor([(*prompt, *ids[:-1])], device=device)  # nothing depends on the last token
    scores = speaker.loaded.model(input_ids=read, use_cache=False, logits_to_keep=len(ids)).logits[0]
    target = torch.tensor(ids, device=device).unsqueeze(-1)
    parts = zip(scores.split(_ROWS), target.split(_ROWS), strict=True)
    logps = [torch.log_softmax(part.float(), -1).gather(-1, rows)[:, 0].double().sum() for part, rows in parts]
    rounding = _BF16_ROUNDING * math.sqrt(len(ids)) if speaker.precision == "bf16" else 0.0
    return Likelihood(float(torch.stack(logps).sum()), len(ids), rounding)
