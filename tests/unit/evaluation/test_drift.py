"""Short answers of the policy: nothing has drifted before training, and the divergence is the textbook's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny import END, loaded, pair_model, plain_token_logps, tiny_llama

from penchant.batching.pair_batch import Group
from penchant.evaluation.drift import DriftProbe, repeated_grams
from penchant.generation.generate import generate
from penchant.models.freeze import choose_trainable
from penchant.types import Sampling

PROMPTS = [(5, 9, 11), (7, 7, 30, 31), (40,), (8, 20, 21)]


def test_repetition_by_hand() -> None:
    assert repeated_grams([1, 2, 3, 4, 5, 6, 7]) == 0.0
    assert repeated_grams([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)  # five four-grams, one of them again
    assert repeated_grams([9] * 10) == pytest.approx(6 / 7)
    assert repeated_grams([1, 2, 3, 4]) == repeated_grams([]) == 0.0


def probe_of(last_layers: int | None) -> tuple[DriftProbe, Any]:
    model = tiny_llama(layers=3)
    part = choose_trainable(model, last_layers)
    scorer = pair_model(model, trunk_layers=part.frozen_layers)
    made = DriftProbe(loaded(model), scorer, PROMPTS, max_new_tokens=12, seed=3, micro_batch_tokens=40)
    return made, model


@pytest.mark.parametrize("last_layers", [None, 1])
def test_before_training_the_policy_is_the_reference(last_layers: int | None) -> None:
    probe, _ = probe_of(last_layers)
    line = probe.measure(0)
    assert line["log_ratios"] == [0.0] * 4
    assert line["kl_per_token"] == 0.0
    assert all(1 <= tokens <= 12 for tokens in line["tokens"])
    again = probe.measure(0)
    assert {**line, "seconds": 0} == {**again, "seconds": 0}


@pytest.mark.parametrize("last_layers", [None, 1])
def test_the_divergence_is_that_of_plain_forward_passes(last_layers: int | None) -> None:
    """The trained weights change; the answers are the changed policy's, and the reference is what it was."""
    probe, model = probe_of(last_layers)
    start = tiny_llama(layers=3)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    line = probe.measure(7)
    assert all(torch.equal(a, b) for a, b in zip(kept, model.parameters(), strict=True))
    sampling = Sampling(temperature=1.0, top_k=259, seed=3)
    answers = [answer for [answer] in generate(loaded(model), PROMPTS, max_new_tokens=12, sampling=sampling)]
    groups = [
        Group(prompt, (answer.ids + (END,) * answer.finished,))
        for prompt, answer in zip(PROMPTS, answers, strict=True)
    ]
    with torch.no_grad():
        ours, theirs = plain_token_logps(model, groups), plain_token_logps(start, groups)
    sums = [float(part.sum()) for part in (ours - theirs).split(line["tokens"])]
    assert line["log_ratios"] == pytest.approx(sums, abs=1e-4)
    assert line["kl_per_token"] == pytest.approx(sum(sums) / sum(line["tokens"]), abs=1e-5)
    assert any(abs(value) > 0.1 for value in sums)
