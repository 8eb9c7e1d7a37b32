"""From passes to seconds and bytes: each thing that a run does is counted once; the costs are made up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import tiny_config, tiny_llama

from penchant.batching.pair_batch import pair_group
from penchant.models.freeze import configured_choice
from penchant.models.sizes import ModelSizes, model_sizes
from penchant.training.cost import (
    Line,
    Shape,
    UnitCosts,
    forward_seconds,
    gradient_seconds,
    micro_batch_load,
    other_model_seconds,
    scoring_bytes,
    trunk_seconds,
)
from penchant.types import TokenizedPair
from penchant.workflow.plan_costs import (
    Kept,
    Rates,
    disk_of,
    file_seconds,
    measured_rates,
    memory_of,
    seconds_of,
    trunk_kept,
    unmeasured_costs,
)
from penchant.workflow.plan_work import Examples, Work, work_of

COSTS = UnitCosts(
    layer_forward=1.0,
    layer_step=3.0,
    rest_forward=Line(10, 1),
    rest_step=Line(100, 2),
    head_forward=7.0,
    head_step=20.0,
    update=0.001,
    layer_saved=Line(0, 5),
    rest_saved=Line(0, 6),
    working=Line(1000, 2),
    spread=0.0,
)
NOTHING, ALL = Kept(0.0, 0.0, 0.0), Kept(0.0, 5000.0, 1.0)


def pairs(count: int, first: int = 0) -> list[TokenizedPair]:
    return [
        TokenizedPair(f"p{i}", (5, 6, 7 + i), (8, 9, 10), (11,) * (1 + i % 3)) for i in range(first, first + count)
    ]


def run(**sections: dict[str, Any]) -> tuple[Any, Work, Shape]:
    """A run of 12 pairs, 4 a step, on a model of 5 layers of which 2 are trained; 6 pairs are held out."""
    sections = {"model": {"last_layers": 2}, "engine": {"micro_batch_tokens": 20}, **sections}
    sections["train"] = {"epochs": 1.0, **sections.get("train", {})}
    config = tiny_config("none", **sections)
    held_out = pairs(6, 50) if config.train.evaluate_every else []
    work = work_of(config, Examples(pairs(12), held_out), packed=True)
    sizes = model_sizes(
        tiny_llama(layers=5, tied=True).config, **configured_choice(config.model, config.train.seed)
    )
    moving = config.objective.reference_every is not None
    return config, work, Shape(sizes, True, 10, config.train.optimizer, moving, config.model.load_in_4bit)


def plain(loads: Any, shape: Shape) -> tuple[float, float, float]:
    """Seconds of the frozen layers, of a pass without and of one with gradient."""
    return tuple(  # type: ignore[return-value]
        1.3 * sum(one(load, shape, COSTS) for load in loads)
        for one in (trunk_seconds, forward_seconds, gradient_seconds)
    )


def test_a_plain_run_scores_its_reference_once_and_takes_gradients() -> None:
    config, work, shape = run()
    frozen, forward, gradient = plain(work.loads, shape)
    update = 1.3 * 0.001 * shape.sizes.trained
    for kept, again in ((NOTHING, 1), (ALL, 0)):
        found = seconds_of(config, work, shape, COSTS, kept, None)
        assert found.once == pytest.approx(frozen + forward)
        assert found.step == pytest.approx((gradient + again * frozen) / 3 + update)
        assert found.validation == 0


@pytest.mark.parametrize(
    ("objective", "passes"), [({"reference_every": 1}, 1), ({"loss": "kto"}, 1), ({"loss": "bco", "wpo": True}, 2)]
)
def test_each_pass_without_gradient_costs_a_forward_pass_a_step(objective: dict[str, Any], passes: int) -> None:
    """And the frozen layers again, where their outputs are not kept."""
    config, work, shape = run(objective=objective)
    frozen, forward, gradient = plain(work.loads, shape)
    update = 1.3 * 0.001 * shape.sizes.trained
    for kept, again in ((NOTHING, 1), (ALL, 0)):
        found = seconds_of(config, work, shape, COSTS, kept, None)
        expected = gradient + passes * forward + (1 + passes) * again * frozen
        assert found.step == pytest.approx(expected / 3 + update)


@pytest.mark.parametrize(("objective", "passes"), [({}, 1), ({"loss": "aot"}, 2)])
def test_a_validation_is_passes_over_the_held_out_pairs(objective: dict[str, Any], passes: int) -> None:
    """Which are scored under the reference once, beside those that are trained on."""
    config, work, shape = run(objective=objective, train={"evaluate_every": 2})
    without = seconds_of(*run(objective=objective), COSTS, NOTHING, None)
    frozen, forward, _ = plain(work.held_out, shape)
    assert frozen > 0
    assert forward > 0
    for kept, again in ((NOTHING, 1), (ALL, 0)):
        found = seconds_of(config, work, shape, COSTS, kept, None)
        assert found.validation == pytest.approx(passes * (forward + again * frozen))
        assert found.once == pytest.approx(without.once + forward + frozen)


def test_held_out_pairs_take_room_among_the_kept_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path))
    config, work, shape = run(train={"evaluate_every": 2}, engine={"trunk_cache_disk_bytes": 0})
    found = trunk_kept(config, work, shape, "cpu")
    tokens = sum(load.tokens for load in work.loads) + sum(load.tokens for load in work.held_out)
    assert (found.memory, found.disk, found.share) == (4 * 32 * tokens, 0, 1.0)
    assert memory_of(work, shape, COSTS, found, None)[0]["trunk cache"] == found.memory


def other_model() -> ModelSizes:
    return model_sizes(tiny_llama(layers=40).config, None)


def test_another_reference_is_read_and_scored_once_over_all_its_layers() -> None:
    config, work, shape = run(train={"evaluate_every": 2})
    other = other_model()
    every = [*work.loads, *work.held_out]
    expected = 1.3 * sum(other_model_seconds(load, other, shape, COSTS) for load in every)
    own, with_other = (seconds_of(config, work, shape, COSTS, ALL, one) for one in (None, other))
    frozen, _, _ = plain(every, shape)  # nobody ran the policy's frozen layers while the other one was scored
    assert with_other.once == pytest.approx(expected + frozen)
    assert with_other.step == own.step
    rates = Rates(disk=1e6, hashed=1e7)
    more = file_seconds(config, work, shape, rates, other) - file_seconds(config, work, shape, rates, None)
    assert more == pytest.approx(4 * other.total * (1e-6 + 1e-7) + 4 * shape.sizes.total * 1e-6)


def test_another_reference_is_in_memory_before_the_policy_not_beside_it() -> None:
    _, work, shape = run()
    other = other_model()
    parts, stages = memory_of(work, shape, COSTS, NOTHING, other)
    assert stages["scoring the reference"] == scoring_bytes(work.loads, other, shape, COSTS) > stages["a step"]
    assert parts == memory_of(work, shape, COSTS, NOTHING, None)[0]
    assert "scoring the reference" not in memory_of(work, shape, COSTS, NOTHING, None)[1]


def test_a_base_in_4_bits_is_small_until_it_is_saved() -> None:
    config, work, shape = run(model={"lora_rank": 2, "load_in_4bit": True})
    parts, stages = memory_of(work, shape, COSTS, NOTHING, None)
    assert parts["weights"] == shape.weights < 4 * shape.sizes.total
    assert stages["loading"] == shape.weights + 1000
    assert stages["saving"] == 4 * shape.sizes.total + 1000
    assert disk_of(config, work, shape, NOTHING)["model"] == 4 * shape.sizes.total


def test_checkpoints_hold_the_state_of_the_optimizer_and_a_moving_reference() -> None:
    sections: dict[str, Any] = {"train": {"checkpoint_every": 1, "optimizer": "rmsprop"}}
    config, work, shape = run(**sections)
    assert disk_of(config, work, shape, NOTHING)["checkpoints"] == 3 * 8 * shape.sizes.trained
    config, work, shape = run(**sections, objective={"reference_every": 2})
    assert disk_of(config, work, shape, NOTHING)["checkpoints"] == 3 * 12 * shape.sizes.trained
    rates = Rates(disk=1e6, hashed=1e6)
    expected = 4 * shape.sizes.total + 3 * 12 * shape.sizes.trained
    assert file_seconds(config, work, shape, rates, None) == pytest.approx(2e-6 * expected)


def test_the_best_weights_are_written_after_validations() -> None:
    config, work, shape = run(train={"evaluate_every": 1, "keep_best": "loss"})
    assert disk_of(config, work, shape, NOTHING)["best weights"] == 4 * 4 * shape.sizes.trained
    expected = 4 * shape.sizes.total + 3 * 4 * shape.sizes.trained
    rates = Rates(disk=1e6, hashed=1e6)
    assert file_seconds(config, work, shape, rates, None) == pytest.approx(2e-6 * expected)


def test_without_a_measurement_there_is_memory_and_no_time() -> None:
    config, work, shape = run()
    costs = unmeasured_costs(tiny_llama(layers=5).config)
    parts, stages = memory_of(work, shape, costs, NOTHING, None)
    assert all(math.isfinite(size) for size in [*parts.values(), *stages.values()])
    tokens = max(load.tokens for load in work.loads)
    layer = 4 * tokens * (7 * 32 + 2 * 32 + 2 * 16 + 3 * 64)  # see `linear_widths`
    assert parts["activations"] > 2 * layer - 1
    assert math.isnan(seconds_of(config, work, shape, costs, NOTHING, None).step)


def test_a_disk_and_a_hash_have_a_rate(tmp_path: Path) -> None:
    rates = measured_rates(tmp_path / "not" / "there")
    assert rates.disk > 0
    assert rates.hashed > 0
    assert rates.both(100) == pytest.approx(100 / rates.disk + 100 / rates.hashed)


def test_loads_are_those_of_the_pairs() -> None:
    _, work, _ = run(train={"evaluate_every": 2})
    together = micro_batch_load([pair_group(pair) for pair in pairs(6, 50)], packed=True)
    assert sum(load.rows for load in work.held_out) == together.rows
