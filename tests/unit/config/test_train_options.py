"""Options of the section train that depend on each other: what has no effect is an error that says who uses it."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.config import build_config
from penchant.errors import UsageError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decay_fraction": 0.2}, r'decay_fraction is not used by train.schedule "linear", only by wsd'),
        (
            {"schedule": "constant", "final_fraction": 0.1},
            r'final_fraction .* "constant", only by linear and cosine',
        ),
        ({"rmsprop_alpha": 0.99}, r'rmsprop_alpha is not used by train.optimizer "adamw", only by rmsprop'),
        ({"optimizer": "rmsprop", "adam_beta1": 0.9}, r'adam_beta1 .* "rmsprop", only by adamw and adamw_8bit'),
        ({"optimizer": "rmsprop", "adam_beta2": 0.5}, r"adam_beta2 is not used"),
        ({"warmup_steps": 5, "warmup_fraction": 0.1}, r"warmup_fraction is not used beside train.warmup_steps"),
        ({"keep_best": "loss"}, r"keep_best is not used without train.evaluate_every"),
        ({"early_stop": 3}, r"early_stop is not used without train.evaluate_every"),
        ({"evaluate_pairs": 256}, r"evaluate_pairs is not used without train.evaluate_every"),
        ({"evaluate_data": "a.jsonl"}, r"evaluate_data is not used without train.evaluate_every"),
        ({"schedule": "wsd", "warmup_fraction": 0.9}, r"more than 1 together"),
    ],
)
def test_an_option_without_effect_is_an_error(values: dict[str, Any], message: str) -> None:
    """Also at its default value: whoever writes it expects an effect."""
    with pytest.raises(UsageError, match=message):
        build_config({"train": values})


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "wsd", "decay_fraction": 0.3, "final_fraction": 0.0},
        {"schedule": "wsd", "warmup_steps": 10_000},
        {"schedule": "constant", "final_fraction": None},
        {"optimizer": "rmsprop", "rmsprop_alpha": 0.9},
        {"optimizer": "adamw_8bit", "adam_beta2": 0.9},
        {"warmup_steps": 5, "warmup_fraction": None},
        {"evaluate_every": 5, "keep_best": "rewards/margins", "early_stop": 2, "evaluate_pairs": 9},
        {"evaluate_every": 5, "early_stop": 2},
    ],
)
def test_what_fits_together_is_taken_and_recorded(values: dict[str, Any]) -> None:
    """What a run directory records leaves out what has no effect, and reads back as the same configuration."""
    config = build_config({"train": values})
    recorded = config.resolved()["train"]
    assert build_config(config.resolved()).resolved() == config.resolved()
    assert recorded.keys() == dict(config.train).keys() - config.train.unused().keys()
    assert all(recorded[name] == value for name, value in values.items() if value is not None)


def test_a_recipe_can_be_turned_to_another_schedule_by_overrides() -> None:
    """Null takes back what the recipe says."""
    recipe = {"train": {"warmup_fraction": 0.1, "final_fraction": 0.1}}
    config = build_config(
        recipe,
        [
            "train.schedule=constant",
            "train.final_fraction=null",
            "train.warmup_steps=3",
            "train.warmup_fraction=null",
        ],
    )
    assert config.train.warmup_steps == 3


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("schedule", "cosin", "cosine"),
        ("optimizer", "rmsprob", "rmsprop"),
        ("keep_best", "reward/accuracies", "rewards/accuracies"),
    ],
)
def test_a_misspelt_value_is_answered_with_the_nearest(key: str, wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=f'train.{key} = .*Did you mean "{right}"'):
        build_config({"train": {key: wrong, "evaluate_every": 2}})


def test_a_value_like_none_that_is_known_is_answered_with_all_of_them() -> None:
    """Once, and without a guess."""
    with pytest.raises(UsageError) as caught:
        build_config({"train": {"schedule": "zzz"}})
    assert str(caught.value).count("cosine") == 1
    assert "Did you mean" not in str(caught.value)
