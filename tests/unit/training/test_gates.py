"""Each gate has a fault that trips it, with the cause named, and healthy runs that it lets pass."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import pair_model, random_pairs, tiny_config, tiny_llama
from torch import nn

from penchant.errors import ModelError, NotFiniteError
from penchant.models.freeze import choose_trainable
from penchant.objective.kept_weights import scored_logps
from penchant.objective.moving_reference import MovingReference
from penchant.objective.reference import reference_logps
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.step import Trainer


def make_trainer(folder: Path, *, learning_rate: float = 1e-3, steps: int = 8, **objective: Any) -> Trainer:
    train_section = {"max_steps": steps, "epochs": 9.0, "learning_rate": learning_rate}
    config = tiny_config("tiny", train=train_section, objective=objective)
    pairs, model = random_pairs(8), tiny_llama()
    choose_trainable(model, None)
    scorer = pair_model(model)
    reference = reference_logps(scorer, pairs, folder, micro_batch_tokens=256).logps
    return Trainer(config, scorer, pairs, reference, make_optimizer(config, scorer), TrunkCache(0))


def run(trainer: Trainer) -> list[dict[str, float]]:
    lines: list[dict[str, float]] = []
    train(trainer, lambda _, line: lines.append(line))
    return lines


def shift_reference(trainer: Trainer) -> None:
    assert trainer.reference is not None
    trainer.reference = replace(trainer.reference, chosen=trainer.reference.chosen + 1.0)


def drop_out(trainer: Trainer) -> None:
    """Put an active dropout into a layer, after the engine has silenced those that the model had."""
    layer = trainer.model.model.get_submodule("model.layers.1.mlp")
    layer.act_fn = nn.Sequential(layer.get_submodule("act_fn"), nn.Dropout(0.5))


def scale_with_gradient(trainer: Trainer) -> None:
    """Let a layer give other outputs where gradients are wanted."""

    def scaled(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        return output * 1.5 if torch.is_grad_enabled() else None

    trainer.model.model.get_submodule("model.layers.1.mlp").register_forward_hook(scaled)


@pytest.mark.parametrize(
    ("fault", "cause", "fix"),
    [
        (shift_reference, "scored with other weights, another adapter, precision or chat template", "store"),
        (drop_out, r"dropout is active in model\.layers\.1\.mlp\.act_fn\.1", "dropout of the model to 0"),
        (scale_with_gradient, "the pass with gradients computes something else", r"engine\.prefix_sharing"),
    ],
)
def test_a_first_loss_that_cannot_be_is_stopped_with_its_cause(
    tmp_path: Path, fault: Any, cause: str, fix: str
) -> None:
    trainer = make_trainer(tmp_path)
    fault(trainer)
    before = [p.detach().clone() for p in trainer.model.model.parameters()]
    with pytest.raises(ModelError, match="first loss is") as caught:
        run(trainer)
    assert "0.693147" in str(caught.value)
    assert re.search(cause, str(caught.value))
    assert re.search(fix, str(caught.value))
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.model.parameters(), strict=True))


@pytest.mark.parametrize("learning_rate", [1e-3, 1e-8])
def test_a_healthy_run_passes_all_gates(tmp_path: Path, learning_rate: float) -> None:
    """Also one whose first updates are very small."""
    lines = run(make_trainer(tmp_path, learning_rate=learning_rate))
    assert len(lines) == 8
    assert lines[0]["rewards/margins"] == 0.0
    assert lines[-1]["rewards/margins"] != 0.0


def test_an_update_below_rounding_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"step 6: .*the optimizer changes no weight \(learning rate \d"):
        run(make_trainer(tmp_path, learning_rate=1e-30))


def test_what_is_trained_but_never_reached_is_noticed(tmp_path: Path) -> None:
    """The optimizer holds copies of the weights: they get no gradient."""
    trainer = make_trainer(tmp_path)
    copies = [nn.Parameter(p.detach().clone()) for p in trainer.model.model.parameters()]
    trainer.optimizer = torch.optim.AdamW(copies, fused=True)
    with pytest.raises(ModelError, match="the gradient is zero"):
        run(trainer)


class _SameObject(MovingReference):
    """A reference that is the policy itself."""

    def logps(self, parts: Any, cache: TrunkCache, passes: int | None = None) -> Any:
        return scored_logps(self._own.model, parts, cache)

    def after_step(self, steps_done: int) -> None:
        pass


def test_one_object_for_policy_and_reference_is_noticed(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.moving = _SameObject(trainer.model, share=0.5, every=4)
    with pytest.raises(ModelError, match="they are the reference's weights too"):
        run(trainer)


def test_a_reference_that_is_to_follow_at_every_step_may(tmp_path: Path) -> None:
    """TR-DPO with a hard copy after every step is what was asked for: margins stay zero."""
    trainer = make_trainer(tmp_path, reference_every=1, reference_share=1.0)
    trainer.moving = MovingReference(trainer.model, share=1.0, every=1)
    assert [line["rewards/margins"] for line in run(trainer)] == [0.0] * 8


def test_the_pairs_whose_loss_is_not_finite_are_named(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=2)
    assert trainer.reference is not None
    rejected = trainer.reference.rejected.clone()
    rejected[[2, 5]] = float("nan")
    trainer.reference = replace(trainer.reference, rejected=rejected)
    with pytest.raises(NotFiniteError, match="not finite: ") as caught:
        run(trainer)
    named = {pair.id for pair in trainer.pairs if pair.id in str(caught.value)}
    assert named
    assert named <= {"pair-2", "pair-5"}


def test_pairs_are_told_their_own_figures_before_the_means(tmp_path: Path) -> None:
    """Log-ratios of each pair, in the order told; their means are what the step logs."""
    trainer = make_trainer(tmp_path, steps=3)
    heard: list[tuple[int, list[int], dict[str, list[float]]]] = []
    trainer.on_pairs = lambda step, order, own: heard.append((step, list(order), own))
    for line, (step, order, own) in zip(run(trainer), heard, strict=True):
        assert line["step"] == step
        assert len(set(order)) == len(order) == line["pairs"]
        mean = sum(own["chosen_log_ratio"]) / len(order)
        assert 0.1 * mean == pytest.approx(line["rewards/chosen"], abs=1e-6)
        assert sum(own["loss"]) / len(order) == pytest.approx(line["loss"], rel=1e-6)
        fell = sum(value < 0 for value in own["chosen_log_ratio"]) / len(order)
        assert fell == line["chosen_fell_fraction"]
