"""Batched generation: a prompt is read once for all of its samples, and finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from penchant.generation.sampling import GREEDY, Sampling, choose_tokens, uniforms
from penchant.models.load import LoadedModel
from penchant.processes import rank, told_by_all, world_size

_COMPACT_BELOW = 0.8  # drop finished rows once fewer than this share is alive; each drop copies the cache


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        ids: Its tokens, without the end token.
        finished: Whether the model ended it by itself, rather than being cut off.
    """

    ids: tuple[int, ...]
    finished: bool


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    samples: int = 1,
    sampling: Sampling = GREEDY,
    batch_rows: int = 128,
    on_rows: Callable[[int], None] | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> list[list[Generated]]:
    """Return `samples` answers to each prompt, in the order of the prompts; several processes share the work.

    Args:
        loaded: Model and tokenizer.
        prompts: Prompt ids.
        max_new_tokens: Longest answer, its end token included.
        samples: Answers a prompt.
        sampling: Greedy by default.
        batch_rows: Answers made at a time.
        on_rows: Told how many answers were finished, batch by batch.
        check_stop: Called before every token; what it raises ends the generation.
    """
    answers: list[list[Generated]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # like lengths, little padding
    stride = max(1, min(batch_rows // samples, -(-len(order) // world_size())))
    chunks = [order[start : start + stride] for start in range(0, len(order), stride)]
    for chunk in chunks[rank() :: world_size()]:
        rows = [index * samples + sample for index in chunk for sample in range(samples)]
        read = [prompts[i] for i in chunk]
        made = _generate_batch(loaded, read, rows, max_new_tokens, samples, sampling, check_stop)
        for position, answer in enumerate(made):
            answers[chunk[position // samples]].append(answer)
        if on_rows:
            on_rows(len(rows))
    return [next(filter(None, told), []) for told in zip(*told_by_all(answers), strict=True)]


def _generate_batch(
    loaded: LoadedModel,
    prompts: list[Sequence[int]],
    rows: list[int],
    max_new_tokens: int,
    samples: int,
    sampling: Sampling,
    check_stop: Callable[[], None],
) -> list[Generated]:
    model, device = loaded.model, loaded.model.device
    draws = torch.stack([uniforms(sampling.seed, row, max_new_tokens) for row in rows]).to(device)
    ids, mask = _left_padded(prompts, loaded.pad_id, device)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(-1) - 1).clamp_(min=0)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
    ).logits[:, -1]
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        mask, logits = mask.repeat_interleave(samples, 0), logits.repeat_interleave(samples, 0)
    stops = torch.tensor(loaded.stop_ids, device=device)
    answers: list[list[int]] = [[] for _ in rows]
    finished = [False] * len(rows)
    alive = torch.arange(len(rows), device=device)  # which answer each row of the batch belongs to
    running = torch.ones(len(rows), dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        check_stop()
        tokens = choose_tokens(logits, sampling, draws[alive, step])
        ended = torch.isin(tokens, stops)
        for row, token, was_running, end in zip(
            alive.tolist(), tokens.tolist(), running.tolist(), ended.tolist(), strict=True
        ):
            if was_running and end:
                finished[row] = True
            elif was_running:
                answers[row].append(token)
        running = running & ~ended
        live = int(running.sum())
        if live == 0 or step == max_new_tokens - 1:
            break
        if live < _COMPACT_BELOW * len(running):
            keep = running.nonzero().squeeze(-1)
            cache.batch_select_indices(keep)
            mask, tokens, alive, running = mask[keep], tokens[keep], alive[keep], running[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1)
        logits = model(
            input_ids=tokens.unsqueeze(-1),
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
        ).logits[:, -1]
    return [Generated(tuple(answer), end) for answer, end in zip(answers, finished, strict=True)]


def _left_padded(prompts: list[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
