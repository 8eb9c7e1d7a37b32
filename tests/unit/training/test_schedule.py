"""The learning rate step by step, and how many steps there are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from penchant.config import TrainConfig
from penchant.training.schedule import epochs_after, learning_rate, total_steps


def rates(total: int, **values: Any) -> list[float]:
    config = TrainConfig(**{"learning_rate": 1.0, **values})
    return [learning_rate(config, step, total) for step in range(total)]


def test_linear_by_hand() -> None:
    """Two steps up to the peak, then down in equal steps to a tenth."""
    found = rates(10, warmup_fraction=0.2, schedule="linear", final_fraction=0.2)
    assert found == pytest.approx([0.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])


def test_cosine_by_hand() -> None:
    """Half a cosine from the peak to the last rate."""
    found = rates(5, warmup_fraction=0.2, schedule="cosine", final_fraction=0.0)
    assert found == pytest.approx([1.0] + [0.5 * (1 + math.cos(math.pi * k / 4)) for k in (1, 2, 3, 4)])
    assert found[-1] == pytest.approx(0.0, abs=1e-12)


def test_constant_stays() -> None:
    """After the warm-up."""
    assert rates(5, warmup_fraction=0.4, schedule="constant") == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_wsd_by_hand() -> None:
    """Two steps up, four at the peak, then four down by 1 - sqrt: its first step takes half of the way."""
    found = rates(10, warmup_fraction=0.2, schedule="wsd", decay_fraction=0.4, final_fraction=0.2)
    decay = [0.2 + 0.8 * (1 - math.sqrt(k / 4)) for k in (1, 2, 3, 4)]
    assert found == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, *decay])
    assert decay[0] == pytest.approx(0.6)


def test_wsd_decays_in_the_last_steps_only() -> None:
    """A fifth of the steps unless said otherwise, rounded up, and down to nothing when nothing is to be left."""
    found = rates(11, warmup_fraction=0, schedule="wsd", final_fraction=None)
    assert found[:8] == [1.0] * 8
    assert 0 < found[9] < found[8] < 1
    assert found[10] == 0


def test_wsd_after_a_long_warm_up_has_a_shorter_decay() -> None:
    """The warm-up is kept whole; what is left of the decay still ends at the last rate."""
    found = rates(10, warmup_steps=8, schedule="wsd", decay_fraction=0.5, final_fraction=0.1)
    assert found[:8] == pytest.approx([k / 8 for k in range(1, 9)])
    assert found[8:] == pytest.approx([0.1 + 0.9 * (1 - math.sqrt(0.5)), 0.1])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
def test_a_warm_up_in_steps_is_that_fraction_of_the_steps(schedule: str) -> None:
    """Two of ten steps are a fifth, whatever comes after; none at all is a start at the peak or just below."""
    assert rates(10, warmup_steps=2, schedule=schedule) == rates(10, warmup_fraction=0.2, schedule=schedule)
    assert rates(10, warmup_steps=0, schedule=schedule) == rates(10, warmup_fraction=None, schedule=schedule)
    assert rates(10, warmup_steps=0, schedule=schedule)[0] > 0.9


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_every_rate_lies_between_nothing_and_the_peak(schedule: str, warmup: float, total: int) -> None:
    """The first step already learns; no rate exceeds the peak; after the peak rates never rise."""
    found = rates(total, warmup_fraction=warmup, schedule=schedule)
    assert all(0 < rate <= 1 for rate in found)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


@pytest.mark.parametrize(
    ("pairs", "batch", "epochs", "limit", "expected"),
    [
        (16, 8, 1, None, 2),
        (17, 8, 1, None, 3),
        (16, 8, 0.5, None, 1),
        (3, 8, 0.01, None, 1),
        (80, 8, 3, 5, 5),
        (8, 8, 1, 99, 1),
    ],
)
def test_total_steps(pairs: int, batch: int, epochs: float, limit: int | None, expected: int) -> None:
    """Epochs over the pairs, rounded up, at least one, at most `max_steps`."""
    assert total_steps(TrainConfig(epochs=epochs, batch_pairs=batch, max_steps=limit), pairs) == expected  # type: ignore[call-arg]


@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize(
    ("schedule", "theirs"), [("linear", "linear"), ("cosine", "cosine"), ("constant", "constant_with_warmup")]
)
def test_in_the_course_of_trl_rates_are_transformers_own(schedule: str, theirs: str, warmup: int) -> None:
    """To the last bit or two, a warm-up from zero included; without a warm-up the first step has the peak."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=9)
    expected = []
    for _ in range(9):
        expected += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    final = {} if schedule == "constant" else {"final_fraction": None}
    found = rates(9, order="trl", schedule=schedule, warmup_steps=warmup, warmup_fraction=None, **final)
    assert found == pytest.approx(expected, abs=1e-15)


def test_in_the_course_of_trl_epochs_are_whole_steps() -> None:
    """Seventeen pairs in steps of eight are three steps, of which the last is short."""
    config = TrainConfig(epochs=2.5, batch_pairs=8, order="trl")  # type: ignore[call-arg]
    assert total_steps(config, 17) == 8
    assert [epochs_after(config, step, 17) for step in (1, 3, 6)] == pytest.approx([1 / 3, 1, 2])
