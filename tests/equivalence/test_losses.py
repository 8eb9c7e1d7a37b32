"""Every loss and option: any split of a step gives its numbers, the slow twin does too, and a run resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import (
    StopAfter,
    largest_difference,
    pair_model,
    pair_rows,
    random_pairs,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.config import OBJECTIVE_OPTIONS
from penchant.errors import Stopped
from penchant.models.freeze import choose_trainable
from penchant.objective.loss_table import LOSSES, needs_reference
from penchant.objective.reference import reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.tokens.unpaired import labelled_responses
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.step import Trainer
from penchant.types import TokenizedPair
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

INVARIANT = 1e-6
LEARNING_RATE = 1e-3
PAIRS = [
    replace(pair, weight=0.5 + index % 3, margin=index / 10 if index % 4 else None, confidence=0.6 + 0.02 * index)
    for index, pair in enumerate(random_pairs(16, seed=5))
]
MIXES: list[dict[str, Any]] = [
    {"loss": "dpo", "logps": "mean", "beta": 2.0},
    {"loss": "dpo", "nll_weight": 0.5},
    {"loss": "dpo", "pair_weights": True},
    {"loss": "dpo", "margin_scale": 2.0},
    {"loss": "dpo", "label_confidence": True},
    {"loss": "exo", "label_confidence": True, "label_smoothing": 0.0},
    {"loss": "dpo", "ld_alpha": 0.3},
    {"loss": "dpo", "wpo": True},
    {"loss": "bco", "logps": "mean", "wpo": True, "nll_weight": 1.0},
    {"loss": "dpo", "divergence": "forward_kl"},
    {"loss": "dpo", "divergence": "js"},
    {"loss": "dpo", "divergence": "alpha", "divergence_alpha": 0.3},
    {"loss": {"dpo": 1.0, "hinge": 0.5, "aot": 0.25}},
]
ALONE = [{"loss": name, **({"beta": 0.05} if name == "sppo" else {})} for name in LOSSES]
CASES = ALONE + MIXES


# One of each kind runs by default: of one pair, of a step's statistics, of single responses, without a reference.
# Every loss takes twenty steps by default in tests/golden; every split of a step is in test_split_invariance.py.
BY_DEFAULT = ("dpo", "bco", "kto", "sft")


def some_of(value: Any, *, by_default: bool) -> Any:
    """A case that runs by default, or with the slow ones."""
    return pytest.param(value, marks=[] if by_default else [pytest.mark.slow])


def name_of(case: dict[str, Any]) -> str:
    loss = case["loss"] if isinstance(case["loss"], str) else "+".join(case["loss"])
    return " ".join([loss, *(f"{key}={value}" for key, value in case.items() if key != "loss")])


def pairs_for(case: dict[str, Any]) -> list[TokenizedPair]:
    return labelled_responses(PAIRS, max_tokens=64, seed=0)[:16] if case["loss"] == "kto" else PAIRS


def course(
    case: dict[str, Any], folder: Path, *, tokens: int, sharing: bool = True, last_layers: int | None = 2
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Two steps of eight pairs: the trained weights and the metrics."""
    config = tiny_config(
        "tiny",
        objective=case,
        train={"learning_rate": LEARNING_RATE, "batch_pairs": 8, "max_steps": 2, "clip_norm": None},
        engine={"micro_batch_tokens": tokens},
    )
    pairs, model = pairs_for(case), tiny_llama(seed=2)
    part = choose_trainable(model, last_layers)
    scorer = pair_model(model, trunk_layers=part.frozen_layers if sharing else 0, prefix_sharing=sharing)
    reference = None
    if needs_reference(config.objective):
        alpha = config.objective.ld_alpha
        reference = reference_logps(scorer, pairs, folder, micro_batch_tokens=tokens, ld_alpha=alpha).logps
    lines: list[dict[str, float]] = []
    optimizer = make_optimizer(config, scorer)
    for group in optimizer.param_groups:
        group["eps"] = 1e-2  # with Adam's own, gradients that are rounding would move weights as far as all others
    trainer = Trainer(config, scorer, pairs, reference, optimizer, TrunkCache(1 << 20))
    train(trainer, lambda _, line: lines.append(line))
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}, lines


def assert_same(
    one: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
    other: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
) -> None:
    """Metrics to 1e-6 of what they are made of, and weights to 1e-6 of the largest."""
    for left, right in zip(one[1], other[1], strict=True):
        assert left.keys() == right.keys()
        assert left["loss"] == pytest.approx(right["loss"], rel=2 * INVARIANT)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-5)
        for name in set(left) & {"logps/chosen", "logps/rejected", "nll", "logps/desirable", "logps/undesirable"}:
            assert left[name] == pytest.approx(right[name], rel=INVARIANT), name
        for name in (name for name in left if name.startswith("rewards/") and name != "rewards/accuracies"):
            assert left[name] == pytest.approx(right[name], abs=1e-4), name
    for name, value in other[0].items():
        assert largest_difference(one[0][name], value) <= INVARIANT, name


@pytest.mark.parametrize(
    "case", [some_of(case, by_default=case in ALONE and case["loss"] in BY_DEFAULT) for case in CASES], ids=name_of
)
def test_a_step_does_not_depend_on_how_it_was_split(case: dict[str, Any], tmp_path: Path) -> None:
    """As 8 x 1, as about 4 x 2 and as 1 x 8, and on the padded slow twin through autograd."""
    whole = course(case, tmp_path / "whole", tokens=1 << 20)
    assert_same(course(case, tmp_path / "apart", tokens=1), whole)
    assert_same(course(case, tmp_path / "halves", tokens=60), whole)
    assert_same(course(case, tmp_path / "slow", tokens=1 << 20, sharing=False), whole)
    assert whole[1][1]["loss"] != pytest.approx(whole[1][0]["loss"], abs=1e-7)  # something was learnt


@pytest.mark.parametrize("name", [some_of(name, by_default=name == "dpo") for name in LOSSES])
def test_every_loss_trains_and_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Twenty steps by `train_run`, stopped after the seventh and resumed: the bytes of a run without a stop."""
    source, data = save_tiny(tmp_path / "start"), write_rows(tmp_path / "pairs.jsonl", pair_rows(20))
    config = tiny_config(source, objective={"loss": name}, train={"max_steps": 20, "epochs": 4.0})
    whole = train_run(config, data, tmp_path / "whole").run
    assert len(step_metrics(whole)) == 20
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, tmp_path / "halved", stopper=stopper, reporter=StopAfter(stopper, 7))
    train_run(config, data, tmp_path / "halved", resume=True)
    assert step_metrics(tmp_path / "halved") == step_metrics(whole)
    for path in sorted((whole / "model").iterdir()):
        assert path.read_bytes() == (tmp_path / "halved" / "model" / path.name).read_bytes()


def test_the_cases_cover_every_option() -> None:
    """Whatever can be set is set in some case, by its loss's default or here; test_moving_reference has two."""
    own = {option for options in OBJECTIVE_OPTIONS.values() for option in options}
    set_here = {option for case in CASES for option in case}
    by_default = {"beta", "gamma", "penalty", "tau", "desirable_weight", "undesirable_weight", "label_smoothing"}
    assert own <= set_here | by_default | {"reference_every", "reference_share"}


def test_mean_all_is_the_mean_over_prompt_and_response(tmp_path: Path) -> None:
    """By hand: every token but the first is scored, prompt tokens on both sides."""
    pair = TokenizedPair("a", (5, 6, 7), (8, 9), (10,))
    scored = pair.with_scored_prompt()
    assert (scored.prompt_ids, scored.chosen_ids, scored.rejected_ids) == ((5,), (6, 7, 8, 9), (6, 7, 10))
    masked = replace(pair, chosen_scored=(True, False)).with_scored_prompt()
    assert masked.chosen_scored == (True, True, True, False)
    source, data = save_tiny(tmp_path / "start"), write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    config = tiny_config(source, objective={"logps": "mean_all"}, train={"max_steps": 2})
    lines = step_metrics(train_run(config, data, tmp_path / "run").run)
    assert lines[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)


def test_labelled_responses_train_without_pairs(tmp_path: Path) -> None:
    """Rows of one response and a label, as KTO's data sets have them."""
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen" if place % 3 else "rejected"], "label": place % 3 > 0}
        for place, row in enumerate(pair_rows(12))
    ]
    source, data = save_tiny(tmp_path / "start"), write_rows(tmp_path / "rows.jsonl", rows)
    config = tiny_config(
        source, objective={"loss": "kto"}, train={"max_steps": 3, "batch_pairs": 12, "epochs": 3.0}
    )
    lines = step_metrics(train_run(config, data, tmp_path / "run").run)
    assert lines[0]["loss"] == pytest.approx(0.5, abs=1e-6)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["rewards/margins"] > 0
