"""A policy that has left its reference, the same on every machine, and one step of the engine with the two.

Most of what a loss does cannot be seen where policy and reference are one model: every margin is 0 there. Weights
and pairs come from NumPy's `RandomState`, whose streams are frozen, so that numbers measured once, by another
library, can be compared anywhere and with any version of torch.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tests.tiny import END, pair_model, tiny_config, tiny_llama
from torch import Tensor
from transformers import LlamaForCausalLM

from penchant.batching.pair_batch import Group, PairBatch, pair_group
from penchant.config import Config
from penchant.models.freeze import choose_trainable
from penchant.objective.logps import PairLogps, joined_logps, pair_logps
from penchant.objective.loss_table import needs_reference
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.loop import train
from penchant.training.step import Trainer
from penchant.types import TokenizedPair

LAYERS, WIDTH = 2, 16
SPREAD, DISTANCE = 0.2, 0.04  # of the reference's weights, and of the policy's from them


def models() -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    """Return the policy and the reference, fp32, new ones at each call."""
    return copy.deepcopy(_models())


@functools.cache
def _models() -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    both = tuple(tiny_llama(layers=LAYERS, hidden_size=WIDTH, intermediate_size=2 * WIDTH) for _ in range(2))
    streams = np.random.RandomState(20), np.random.RandomState(21)
    for (_, own), (_, theirs) in zip(*(sorted(model.named_parameters()) for model in both), strict=True):
        base = SPREAD * streams[0].standard_normal(theirs.shape) + (theirs.ndim < 2)
        away = DISTANCE * streams[1].standard_normal(theirs.shape)
        theirs.data = torch.tensor(base, dtype=torch.float32)
        own.data = torch.tensor(base + away, dtype=torch.float32)
    return both[0], both[1]


def pairs(count: int = 8, *, packed_tokens: int | None = None, seed: int = 5) -> list[TokenizedPair]:
    """Return pairs of unequal responses, with weights, margins and confidences; some rows leave one out.

    Args:
        count: How many.
        packed_tokens: Of every pair, the prompt counted once; None = it varies.
        seed: Of the ids.
    """
    stream = np.random.RandomState(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(int(token) for token in stream.randint(3, 259, size=length))

    found = []
    for index in range(count):
        chosen, rejected = ids(stream.randint(2, 9)), ids(stream.randint(2, 9))
        used = len(chosen) + len(rejected) + 2
        prompt = ids(stream.randint(2, 8) if packed_tokens is None else packed_tokens - used)
        found.append(
            TokenizedPair(
                f"pair-{index}",
                prompt,
                (*chosen, END),
                (*rejected, END),
                weight=0.5 + index % 3,
                margin=index / 10 if index % 4 else None,
                confidence=0.6 + 0.04 * index if index % 5 else None,
            )
        )
    return found


@torch.no_grad()
def scores(model: LlamaForCausalLM, of: Sequence[TokenizedPair], ld_alpha: float | None = None) -> PairLogps:
    """Return the log-probabilities of pairs under a model, one pair at a time."""
    scorer = pair_model(model)
    batches = [scorer.collate([pair_group(pair)]) for pair in of]
    return joined_logps([pair_logps(scorer(batch), batch, ld_alpha) for batch in batches])


@functools.cache
def reference_scores(of: tuple[TokenizedPair, ...], ld_alpha: float | None) -> PairLogps:
    """Return `scores` under the reference."""
    return scores(models()[1], of, ld_alpha)


class Recorder(torch.optim.Optimizer):
    """Keeps the gradients of the step, and updates nothing."""

    def __init__(self, model: PairModel) -> None:
        self._named = {name: p for name, p in model.model.named_parameters() if p.requires_grad}
        super().__init__([{"params": list(self._named.values())}], {"lr": 0.0})
        self.gradients: dict[str, Tensor] = {}

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Copy the gradients."""
        self.gradients = {name: p.grad.clone() for name, p in self._named.items() if p.grad is not None}


@dataclass(frozen=True)
class Step:
    """What one optimizer step came to.

    Attributes:
        metrics: Its line.
        gradients: Of every trained weight, by name.
        micro_batches: Pairs in each of them.
    """

    metrics: dict[str, float]
    gradients: dict[str, Tensor]
    micro_batches: list[int]


def one_step(
    objective: dict[str, Any],
    of: Sequence[TokenizedPair],
    *,
    tokens: int,
    sharing: bool = True,
    last_layers: int | None = None,
) -> Step:
    """Return what the training loop makes of a step of all the pairs, in micro-batches of at most so many tokens.

    Args:
        objective: The section of that name.
        of: The pairs, all of them in the one step.
        tokens: Most tokens in a micro-batch.
        sharing: Whether the fast paths are taken; without it each response is a padded row of its own.
        last_layers: Layers that are trained; None = all.
    """
    config = step_config(objective, len(of), tokens)
    policy, _ = models()
    part = choose_trainable(policy, last_layers)
    scorer = pair_model(policy, trunk_layers=part.frozen_layers if sharing else 0, prefix_sharing=sharing)
    sizes = _sizes(scorer)
    known = reference_scores(tuple(of), config.objective.ld_alpha) if needs_reference(config.objective) else None
    recorder = Recorder(scorer)
    lines: list[dict[str, float]] = []
    trainer = Trainer(config, scorer, of, known, recorder, TrunkCache(1 << 20))
    train(trainer, lambda _, line: lines.append(line))
    return Step(lines[0], recorder.gradients, sizes)


def _sizes(scorer: PairModel) -> list[int]:
    """A list that grows by the number of pairs of every micro-batch that the model is given."""
    sizes: list[int] = []
    collate = scorer.collate

    def counted(groups: Sequence[Group]) -> PairBatch:
        sizes.append(len(groups))
        return collate(groups)

    scorer.collate = counted  # type: ignore[method-assign]
    return sizes


def step_config(objective: dict[str, Any], batch: int, tokens: int) -> Config:
    """Return the configuration of one step with a reference that is another model."""
    return tiny_config(
        "tiny",
        model={"reference": "another"},
        objective=objective,
        train={"batch_pairs": batch, "max_steps": 1, "clip_norm": None},
        engine={"micro_batch_tokens": tokens},
    )
