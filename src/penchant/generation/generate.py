"""Batched generation: a prompt is read once for all of its samples, and finished rows leave the batch.

In fp32 an answer does not depend on what else is generated with it, nor on the number of processes: the draws of
a row are its own, and scores differ by rounding alone (about 1e-6 of their size). Only a tie within rounding, or a
draw that near a border between two tokens, can make another answer. In bf16 ties are common: docs/generation.md
says how many answers differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from penchant.generation.sampling import GREEDY, choose_tokens, row_key, uniforms
from penchant.generation.stop_strings import StopStrings
from penchant.models.load import LoadedModel
from penchant.processes import rank, told_by_all, world_size
from penchant.types import Sampling

_COMPACT_BELOW = 0.8  # drop finished rows once fewer than this share is alive; each drop copies the cache


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        ids: Its tokens, without the end token; those of a stop string are the last ones.
        finished: Whether the model ended it by itself or by a stop string, rather than being cut off.
        stop: The stop string that ended it, "" when none did.
    """

    ids: tuple[int, ...]
    finished: bool
    stop: str = ""


@dataclass
class _Writing:
    """An answer that is being made: the row of draws that is its own, and what it has so far."""

    limit: int
    draws: Tensor
    ids: list[int] = field(default_factory=list)
    going: bool = True
    finished: bool = False
    stop: str = ""

    def take(self, token: int, ends: Sequence[int], stops: StopStrings) -> None:
        if not self.going:
            return
        if token in ends:
            self.going, self.finished = False, True
            return
        self.ids.append(token)
        self.stop = stops.found(self.ids)
        self.finished = bool(self.stop)
        self.going = not self.finished and len(self.ids) < self.limit


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    samples: int = 1,
    sampling: Sampling = GREEDY,
    batch_rows: int = 128,
    names: Sequence[str] | None = None,
    stop: Sequence[str] = (),
    on_rows: Callable[[int], None] | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> list[list[Generated]]:
    """Return `samples` answers to each prompt, in the order of the prompts; several processes share the work.

    An answer is also cut off where the model's context ends; a prompt that fills it gets empty ones.

    Args:
        loaded: Model and tokenizer.
        prompts: Prompt ids.
        max_new_tokens: Longest answer, its end token included.
        samples: Answers a prompt.
        sampling: Greedy by default.
        batch_rows: Answers made at a time; all samples of a prompt are, however many.
        names: What the draws of each prompt are keyed by, so that they are the same in any other list; by default
            its place in the list.
        stop: Strings that end an answer, wherever its tokens part.
        on_rows: Told how many answers were finished, batch by batch.
        check_stop: Called before every token; what it raises ends the generation.

    Raises:
        UsageError: A stop string is empty.
        NotFiniteError: The model's scores are not numbers.
    """
    limits = [min(max_new_tokens, context_tokens(loaded) - len(prompt)) for prompt in prompts]
    fits = [index for index in range(len(prompts)) if limits[index] > 0]
    answers = [[] if limit > 0 else [Generated((), False)] * samples for limit in limits]
    stops = StopStrings(tuple(stop), loaded.chat.decode)
    order = sorted(fits, key=lambda index: len(prompts[index]))  # like lengths, little padding
    stride = max(1, min(batch_rows // samples, -(-len(order) // world_size())))
    chunks = [order[start : start + stride] for start in range(0, len(order), stride)]

    def draws(index: int, sample: int) -> Tensor:
        row = index * samples + sample if names is None else row_key(names[index], sample)
        return uniforms(sampling.seed, row, max_new_tokens)

    for chunk in chunks[rank() :: world_size()]:
        rows = [_Writing(limits[index], draws(index, sample)) for index in chunk for sample in range(samples)]
        _write_batch(loaded, [prompts[index] for index in chunk], rows, sampling, stops, check_stop)
        for position, row in enumerate(rows):
            answers[chunk[position // samples]].append(Generated(tuple(row.ids), row.finished, row.stop))
        if on_rows:
            on_rows(len(rows))
    return [next(filter(None, told), []) for told in zip(*told_by_all(answers), strict=True)]


def context_tokens(loaded: LoadedModel) -> int:
    """Return how many tokens, prompt and answer together, the model was made for; huge where it names none."""
    return getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 60


def _write_batch(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[_Writing],
    sampling: Sampling,
    stops: StopStrings,
    check_stop: Callable[[], None],
) -> None:
    """Write rows to their end, as many of each prompt."""
    model, device = loaded.model, loaded.model.device
    draws = torch.stack([row.draws for row in rows]).to(device)
    ids, mask = _left_padded(prompts, loaded.pad_id, device)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(-1) - 1).clamp_(min=0)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
    ).logits[:, -1]
    if (samples := len(rows) // len(prompts)) > 1:
        cache.batch_repeat_interleave(samples)
        mask, logits = mask.repeat_interleave(samples, 0), logits.repeat_interleave(samples, 0)
    alive = torch.arange(len(rows), device=device)  # which answer each row of the batch belongs to
    for step in range(draws.shape[1]):
        check_stop()
        tokens = choose_tokens(logits, sampling, draws[alive, step])
        going = []
        for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            rows[row].take(token, loaded.stop_ids, stops)
            going.append(rows[row].going)
        if not any(going):
            break
        if sum(going) < _COMPACT_BELOW * len(going):
            keep = torch.tensor(going, device=device).nonzero().squeeze(-1)
            cache.batch_select_indices(keep)
            mask, tokens, alive = mask[keep], tokens[keep], alive[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1)
        logits = model(
            input_ids=tokens.unsqueeze(-1),
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
        ).logits[:, -1]


def _left_padded(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
