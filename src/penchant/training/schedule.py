"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from penchant.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Return the learning rate of step `step` (from 0): linear warm-up, then the configured decay.

    The first step already has a rate above zero, and the last one has `final_fraction` of the peak.
    """
    warmup = math.ceil(config.warmup_fraction * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup + 1) / max(1, total_steps - warmup)
    left = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * left)


def total_steps(config: TrainConfig, pairs: int) -> int:
    """Return how many optimizer steps a run has: epochs over the pairs, limited by `max_steps`."""
    steps = max(1, math.ceil(config.epochs * pairs / config.batch_pairs))
    return min(steps, config.max_steps) if config.max_steps else steps
