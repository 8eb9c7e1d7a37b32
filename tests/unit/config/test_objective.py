"""What is minimised, as it is configured: own defaults, no inert options, nothing undefined."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.config import OBJECTIVE_OPTIONS, ObjectiveConfig, build_config
from penchant.errors import UsageError


def objective(**values: Any) -> ObjectiveConfig:
    return build_config({"objective": values}).objective


@pytest.mark.parametrize("loss", OBJECTIVE_OPTIONS)
def test_every_loss_has_its_own_defaults(loss: str) -> None:
    """What is resolved is the loss with each of its options, and reads back as the same."""
    config = objective(loss=loss)
    for option, value in OBJECTIVE_OPTIONS[loss].items():
        assert getattr(config, option) == value
    assert set(config.used()) <= {"loss", *OBJECTIVE_OPTIONS[loss]}
    assert objective(**config.used()) == config


@pytest.mark.parametrize("loss", OBJECTIVE_OPTIONS)
def test_an_option_that_a_loss_does_not_use_is_an_error_that_names_who_does(loss: str) -> None:
    every = {option: value for options in OBJECTIVE_OPTIONS.values() for option, value in options.items()}
    every |= {"ld_alpha": 0.5, "reference_every": 2}  # whose default is null, which says nothing
    for option in every.keys() - OBJECTIVE_OPTIONS[loss].keys():
        users = next(name for name, options in OBJECTIVE_OPTIONS.items() if option in options)
        with pytest.raises(UsageError, match=rf"objective\.{option} is not used by .*\b{users}\b"):
            objective(loss=loss, **{option: every[option]})


def test_null_takes_back_what_a_recipe_said() -> None:
    """So that another loss can be tried with a recipe that sets an option of its own."""
    recipe = {"objective": {"loss": "dpo", "logps": "mean", "beta": 5.0}}
    config = build_config(recipe, ["objective.loss=simpo", "objective.logps=null", "objective.beta=null"])
    assert (config.objective.loss, config.objective.beta) == ("simpo", 2.0)


def test_several_losses_share_their_options() -> None:
    """Each option of any of them can be set; where their defaults differ it must be."""
    config = objective(loss={"dpo": 1, "dpop": 0.5}, penalty=2.0)
    assert config.losses == {"dpo": 1.0, "dpop": 0.5}
    assert (config.beta, config.penalty) == (0.1, 2.0)
    with pytest.raises(UsageError, match=r"objective\.beta has another default in each of dpo, simpo; set it"):
        objective(loss={"dpo": 1, "simpo": 1})
    assert objective(loss={"dpo": 1, "simpo": 1}, beta=1.5).beta == 1.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "dqo"}, r'"dqo" is not a loss.*"dpo"'),
        ({"loss": {"dpo": 1, "hing": 1}}, r'"hing" is not a loss.*"hinge"'),
        ({"loss": {}}, "names no loss"),
        ({"loss": {"dpo": 0}}, "greater than 0"),
        ({"beta": 0}, "greater than 0"),
        ({"label_smoothing": 0.5}, "less than 0.5"),
        ({"label_smoothing": -0.1}, "greater than or equal to 0"),
        ({"loss": "exo", "label_smoothing": 0}, "must be above 0 for exo"),
        ({"loss": {"kto": 1, "dpo": 1}}, "cannot be mixed"),
        ({"divergence_alpha": 0.3}, "used by objective.divergence"),
        ({"ld_alpha": 0.5, "logps": "mean"}, "weighs the terms of a sum"),
        ({"ld_alpha": 0.5, "nll_weight": 1.0}, "cannot be combined"),
        ({"ld_alpha": 1.0}, "less than 1"),
        ({"logps": "mean_all", "nll_weight": 1.0}, "would put the prompt into the likelihood"),
        ({"loss": "sft", "logps": "mean_all"}, "would put the prompt into the likelihood"),
    ],
)
def test_what_is_undefined_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        objective(**values)
