"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from penchant.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Return the learning rate of step `step` (from 0): linear warm-up, then the configured decay.

    The first step already has a rate above zero, and the last one has `final_fraction` of the peak (all of it with
    a constant schedule). `wsd` (warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395) stays at the peak until
    its last `decay_fraction` of the steps; there it falls by 1 - sqrt(progress), the shape that Haegele et al.
    2024 (arXiv:2405.18392) found better than a straight line. Where the warm-up reaches into the decay's steps,
    the decay is that much shorter.

    In the course of TRL's trainer (`train.order: trl`) each rate comes one step later, as transformers' schedules
    have it: a warm-up begins at zero.
    """
    warmup = _warmup_steps(config, total_steps)
    ahead = 0 if config.order == "trl" else 1
    if step < warmup:
        return config.learning_rate * (step + ahead) / warmup
    start = warmup
    if config.schedule == "wsd":
        start = max(warmup, total_steps - math.ceil(config.decay_fraction * total_steps))
    if config.schedule == "constant" or step < start:
        return config.learning_rate
    left = _left(config.schedule, (step - start + ahead) / max(1, total_steps - start))
    final = config.final_fraction or 0.0
    return config.learning_rate * (final + (1 - final) * left)


def _warmup_steps(config: TrainConfig, total_steps: int) -> int:
    if config.warmup_steps is not None:
        return config.warmup_steps
    return math.ceil((config.warmup_fraction or 0.0) * total_steps)


def _left(schedule: str, progress: float) -> float:
    """What is left of the fall from 1 to 0, `progress` (in [0, 1]) of the way."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - (math.sqrt(progress) if schedule == "wsd" else progress)


def total_steps(config: TrainConfig, pairs: int) -> int:
    """Return how many optimizer steps a run has: epochs over the pairs, limited by `max_steps`."""
    if config.order == "trl":
        steps = math.ceil(config.epochs * math.ceil(pairs / config.batch_pairs))
    else:
        steps = math.ceil(config.epochs * pairs / config.batch_pairs)
    steps = max(1, steps)
    return min(steps, config.max_steps) if config.max_steps else steps


def epochs_after(config: TrainConfig, step: int, pairs: int) -> float:
    """Return how often the pairs were seen after `step` steps, a fraction."""
    if config.order == "trl":
        return step / math.ceil(pairs / config.batch_pairs)
    return step * config.batch_pairs / pairs
