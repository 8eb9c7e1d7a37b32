"""One step of every loss, policy and reference apart: no number depends on how it was split.

Where policy and reference are one model, as at the first step of a run, every reward is 0 and accuracies are a
matter of rounding; here they are not, and so every metric can be held to what the whole step gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.oracles.two_models import Step, one_step, pairs
from tests.tiny import largest_difference

from penchant.config import OBJECTIVE_OPTIONS
from penchant.types import TokenizedPair

ROUNDING = 1e-6
COUNT, TOKENS = 8, 22
# All take the same room, so that micro-batches have as many pairs as is asked for, in responses of many lengths.
# The last token of a response is never fed.
PAIRS = pairs(COUNT, packed_tokens=TOKENS + 2)
SPLITS = {1: [1] * 8, 2: [2] * 4, 3: [3, 3, 2]}  # pairs that fit into a micro-batch, and what comes of it
# What would make a loss or its rounding enormous: at its own default, see test_losses.py.
MILD = {"sppo": {"beta": 0.05}, "dpop": {"penalty": 5.0}}
CASES: list[dict[str, Any]] = [
    *({"loss": loss, **MILD.get(loss, {})} for loss in OBJECTIVE_OPTIONS),
    {"loss": "dpo", "nll_weight": 0.7},
    {"loss": "dpo", "logps": "mean", "nll_weight": 0.7},
    {"loss": "dpo", "nll_weight": 0.7, "pair_weights": True, "margin_scale": 2.0, "label_confidence": True},
    {"loss": "dpo", "ld_alpha": 0.3},
    {"loss": "dpo", "wpo": True},
    {"loss": "dpo", "divergence": "forward_kl"},
    {"loss": "aot", "nll_weight": 0.7},
    {"loss": "aot", "logps": "mean", "wpo": True, "pair_weights": True},
    {"loss": "bco", "logps": "mean", "wpo": True, "nll_weight": 0.7},
    {"loss": "kto", "logps": "mean", "pair_weights": True, "undesirable_weight": 1.5},
    {"loss": "sft", "logps": "sum"},
    {"loss": "sft", "pair_weights": True},
    {"loss": {"dpo": 1.0, "sft": 0.7}, "logps": "mean"},
    {"loss": {"dpo": 1.0, "bco": 0.5, "aot": 0.25}, "nll_weight": 0.7},
]


def name_of(case: dict[str, Any]) -> str:
    loss = case["loss"] if isinstance(case["loss"], str) else "+".join(case["loss"])
    return " ".join([loss, *(f"{key}={value}" for key, value in case.items() if key != "loss")])


def examples(case: dict[str, Any]) -> list[TokenizedPair]:
    """The pairs; for KTO each as one response with a label, the other one as the stranger to measure by."""
    if case["loss"] != "kto":
        return PAIRS
    return [replace(pair, desirable=place % 3 > 0, margin=None) for place, pair in enumerate(PAIRS)]


def assert_same(one: Step, whole: Step, *, fed: bool = True) -> None:
    """Every metric and every gradient; counts and shares of pairs to the bit, unless tokens fed may differ."""
    apart = {"seconds", "peak_memory_bytes"} | (set() if fed else {"tokens"})
    assert one.metrics.keys() == whole.metrics.keys()
    scale = max(abs(value) for name, value in whole.metrics.items() if name.startswith(("logps/", "rewards/")))
    for name in whole.metrics.keys() - apart:
        found, expected = one.metrics[name], whole.metrics[name]
        if name in (
            "step",
            "epoch",
            "learning_rate",
            "pairs",
            "tokens",
            "rewards/accuracies",
            "chosen_fell_fraction",
        ):
            assert found == expected, name
        else:  # a reward is a difference of sums
            allowed = ROUNDING * scale if name.startswith("rewards/") else 0
            assert found == pytest.approx(expected, rel=2 * ROUNDING, abs=allowed), name
    assert one.gradients.keys() == whole.gradients.keys()
    for name, value in whole.gradients.items():
        assert largest_difference(one.gradients[name], value) <= 10 * ROUNDING, name


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_metric_and_gradient_is_the_whole_steps(case: dict[str, Any]) -> None:
    """As 8 x 1, 4 x 2, 3 + 3 + 2 and 1 x 8; and with padding through autograd, the slow twin."""
    of = examples(case)
    whole = one_step(case, of, tokens=1 << 20)
    assert whole.micro_batches == [COUNT]
    for size, micro_batches in SPLITS.items():
        step = one_step(case, of, tokens=size * TOKENS)
        assert step.micro_batches == micro_batches
        assert_same(step, whole)
    assert_same(one_step(case, of, tokens=2 * TOKENS, sharing=False), whole, fed=False)


def test_the_steps_have_something_to_disagree_about() -> None:
    """Accuracy is neither 0 nor 1, some chosen responses fell and some did not, and rewards are no rounding."""
    metrics = one_step({"loss": "dpo", "nll_weight": 0.7}, PAIRS, tokens=1).metrics
    assert 0 < metrics["rewards/accuracies"] < 1
    assert 0 < metrics["chosen_fell_fraction"] < 1
    assert abs(metrics["rewards/margins"]) > 1e-3
    assert {"nll", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected"} <= metrics.keys()
    assert len({pair.num_scored for pair in PAIRS}) > COUNT // 2


def test_every_option_that_reaches_a_step_is_set_in_some_case() -> None:
    """By a loss's default or here; a reference that moves: test_moving_reference.py."""
    known = {option for options in OBJECTIVE_OPTIONS.values() for option in options}
    by_default = {"gamma", "tau", "desirable_weight", "label_smoothing", "divergence_alpha"}
    here = {option for case in CASES for option in case}
    assert known <= here | by_default | {"reference_every", "reference_share"}
