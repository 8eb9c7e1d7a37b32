"""Recipes of several stages: what holds for all, what for one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant.errors import UsageError
from penchant.recipes import load_recipe, read_recipe, recipe_names
from penchant.recipes.stages import load_stages

TEXT = """
model: {path: start, last_layers: 2}
train: {learning_rate: 1e-3, batch_pairs: 4}
stages:
  sft:
    objective: {loss: sft}
    train: {learning_rate: 1e-2}
  dpo:
    objective: {loss: dpo, beta: 0.3}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return written(tmp_path, TEXT)


def written(folder: Path, text: str) -> Path:
    path = folder / "two.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_stage_has_what_holds_for_all_and_its_own_goes_before(recipe: Path) -> None:
    sft, dpo = load_stages(str(recipe))
    assert (sft.name, dpo.name) == ("sft", "dpo")
    assert (sft.config.objective.loss, dpo.config.objective.beta) == ("sft", 0.3)
    assert (sft.config.train.learning_rate, dpo.config.train.learning_rate) == (1e-2, 1e-3)
    for stage in (sft, dpo):
        assert (stage.config.model.path, stage.config.model.last_layers) == ("start", 2)
        assert stage.config.train.batch_pairs == 4


def test_an_override_is_for_all_stages_or_for_the_one_that_it_names(recipe: Path) -> None:
    """The one for a stage wins, wherever it stands."""
    sets = ["dpo.train.max_steps=7", "train.max_steps=3", "sft.train.seed=5", "train.learning_rate=0.5"]
    sft, dpo = (stage.config.train for stage in load_stages(str(recipe), sets))
    assert (sft.max_steps, dpo.max_steps) == (3, 7)
    assert (sft.seed, dpo.seed) == (5, 0)
    assert sft.learning_rate == dpo.learning_rate == 0.5  # before what the file says, as in any recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dop.train.seed=1", 'there is no stage dop. Did you mean "dpo"?'),
        ("dpo.train.sede=1", 'train.sede is not a setting. Did you mean "seed"?'),
        ("objective.beta=1", 'objective.beta is not used by objective.loss "sft"'),
        ("dpo.train=1", "dpo is not a setting"),
    ],
)
def test_an_override_that_fits_nowhere(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_stages(str(recipe), [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dpo:", "../dpo:"), "is no name for a stage"),
        (("  dpo:", "  DPO:"), "is no name for a stage"),
        (
            ("  dpo:\n", "  dpo:\n    model: {path: other}\n"),
            "stage dpo starts from the model of the stage before it",
        ),
        (("{loss: dpo, beta: 0.3}", "{loss: dpo, betta: 0.3}"), "objective.betta is not a setting"),
        (("train: {learning_rate: 1e-3, batch", "trian: {learning_rate: 1e-3, batch"), "trian is not a setting"),
        ((TEXT[TEXT.index("stages:") :], "stages: [sft, dpo]"), "`stages` is a mapping"),
        ((TEXT[TEXT.index("stages:") :], "stages: {}"), "`stages` is a mapping"),
        ((TEXT[TEXT.index("stages:") :], "stages: {sft: 3}"), "stage sft is a mapping"),
    ],
)
def test_a_file_that_is_not_one(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in TEXT
    with pytest.raises(UsageError) as caught:
        load_stages(str(written(tmp_path, TEXT.replace(*change))))
    assert message in str(caught.value)
    assert "two.yaml" in str(caught.value.where)


def test_recipes_with_and_without_stages_name_each_others_verb(recipe: Path) -> None:
    with pytest.raises(UsageError, match=f"this recipe has stages(.|\n)*penchant align {recipe}"):
        load_recipe(str(recipe))
    with pytest.raises(UsageError, match=r"this recipe has no stages(.|\n)*penchant train demo"):
        load_stages("demo")
    with pytest.raises(UsageError, match="Did you mean"):
        load_stages("smollm2-sft-dop")


def test_every_packaged_recipe_is_valid_for_one_of_the_two_verbs() -> None:
    """Those with stages are two here: likelihood first, preferences from its model."""
    staged = [name for name in recipe_names() if "stages" in read_recipe(name)[0]]
    assert "smollm2-sft-dpo" in staged
    for name in recipe_names():
        if name in staged:
            assert [stage.config.objective.loss for stage in load_stages(name)] == ["sft", "dpo"]
        else:
            assert load_recipe(name).objective.loss


def test_the_packaged_likelihood_recipe_counts_tokens_and_every_turn() -> None:
    config = load_recipe("smollm2-sft")
    assert (config.objective.loss, config.objective.logps) == ("sft", "tokens")
    assert (config.train.learning_rate, config.data.loss_turns) == (2e-5, "all_assistant")
