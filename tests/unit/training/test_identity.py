"""What a resume refuses, what it may be allowed, and why."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tiny import tiny_config

from penchant.config import Config
from penchant.errors import ModelError, UsageError
from penchant.training.identity import CHANGES, Change, check_identity, differences, harm, record_of

DIGEST, OTHER_DIGEST = "a" * 64, "b" * 64


def identity(digest: str = DIGEST, /, **sections: dict[str, Any]) -> dict[str, Any]:
    if "model" in sections:
        sections["model"] = {"path": "tiny", **sections["model"]}
    return {"config": tiny_config("tiny", **sections).resolved(), "data": DIGEST, "model": digest}


def refused(now: dict[str, Any], *allow: str, was: dict[str, Any] | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        check_identity(was or identity(), now, where="step-4", allow=allow)
    return caught.value


def test_the_same_is_accepted_whatever_was_allowed_before() -> None:
    history = record_of([Change("eval.batch_rows", 1, 2, {})], 4)
    assert check_identity({**identity(), CHANGES: history}, identity(), where="step-4") == []


def test_every_difference_is_listed_with_what_it_was_and_is() -> None:
    """Key by key, the digests shortened; what is not used any more is a difference too."""
    was = identity(objective={"reference_every": 2, "reference_share": 0.5})
    now = identity(OTHER_DIGEST, train={"learning_rate": 0.5, "batch_pairs": 2}, objective={"beta": 0.3})
    error = refused(now, was=was)
    assert error.exit_code == 4
    assert error.what.splitlines() == [
        "this run was started with another config, another model",
        "    objective.beta: 0.1 -> 0.3",
        "    objective.reference_every: 2 -> None",
        "    objective.reference_share: 0.5 -> not used",
        "    train.batch_pairs: 4 -> 2",
        "    train.learning_rate: 0.001 -> 0.5",
        "    model: aaaaaaaaaaaa... -> bbbbbbbbbbbb...",
    ]


def test_what_came_and_what_went_is_a_difference() -> None:
    """Another reference, or held-out pairs, on one side only."""
    error = refused({**identity(), "reference": DIGEST}, was={**identity(), "validation data": DIGEST})
    assert "validation data: aaaaaaaaaaaa... -> not used" in error.what
    assert "reference: not used -> aaaaaaaaaaaa..." in error.what


def test_harmless_ones_are_offered_and_accepted_by_name() -> None:
    now = identity(train={"checkpoint_every": 3}, engine={"threads": 2}, eval={"batch_rows": 9})
    error = refused(now)
    assert error.fix is not None
    for key in ("train.checkpoint_every", "engine.threads", "eval.batch_rows"):
        assert f"--allow-change {key}" in error.fix
    assert "engine.threads" not in refused(now, "train.checkpoint_every", "eval.batch_rows").what.split("\n")[0]
    allowed = check_identity(
        identity(), now, where="", allow=["train.checkpoint_every", "engine.threads", "eval.batch_rows"]
    )
    assert record_of(allowed, 4) == [
        {"key": "train.checkpoint_every", "was": None, "now": 3, "after_step": 4},
        {"key": "engine.threads", "was": 1, "now": 2, "after_step": 4},
        {"key": "eval.batch_rows", "was": 128, "now": 9, "after_step": 4},
    ]


@pytest.mark.parametrize(
    ("sections", "key", "reason"),
    [
        ({"train": {"learning_rate": 0.5}}, "train.learning_rate", "what the steps compute"),
        ({"train": {"batch_pairs": 2}}, "train.batch_pairs", "what the steps compute"),
        ({"train": {"seed": 1}}, "train.seed", "what the steps compute"),
        ({"objective": {"beta": 0.3}}, "objective.beta", "what the steps compute"),
        ({"data": {"max_tokens": 64}}, "data.max_tokens", "what the steps compute"),
        ({"model": {"last_layers": 1}}, "model.last_layers", "what the steps compute"),
        ({"engine": {"precision": "bf16"}}, "engine.precision", "do not compare"),
        ({"train": {"epochs": 3.0}}, "train.epochs", "rates of steps already taken"),
        ({"train": {"max_steps": 3}}, "train.max_steps", "rates of steps already taken"),
        ({"monitor": {"generate_every": 2}}, "monitor.generate_every", "turned on or off"),
    ],
)
def test_a_harmful_one_is_refused_though_it_is_allowed(
    sections: dict[str, dict[str, Any]], key: str, reason: str
) -> None:
    error = refused(identity(**sections), key)
    assert f"--allow-change {key}" in error.what
    assert reason in error.what
    assert f"--allow-change {key}" not in (refused(identity(**sections)).fix or "")


CONSTANT = {"schedule": "constant", "warmup_fraction": None, "final_fraction": None}


@pytest.mark.parametrize(
    ("train", "harmless"),
    [
        (CONSTANT, True),
        ({**CONSTANT, "warmup_fraction": 0.0}, True),
        ({**CONSTANT, "warmup_steps": 5}, True),
        ({**CONSTANT, "warmup_fraction": 0.1}, False),
        ({"schedule": "linear", "warmup_steps": 5}, False),
        ({"schedule": "cosine", "warmup_steps": 5}, False),
        ({"schedule": "wsd", "warmup_steps": 5}, False),
    ],
)
def test_more_steps_are_harmless_where_no_rate_depends_on_their_number(
    train: dict[str, Any], harmless: bool
) -> None:
    was, now = identity(train=train), identity(train={**train, "epochs": 4.0})
    if harmless:
        [change] = check_identity(was, now, where="", allow=["train.epochs"])
        assert (change.was, change.now) == (2.0, 4.0)
    else:
        assert "--allow-change train.epochs" in refused(now, "train.epochs", was=was).what


def test_a_model_may_move_but_not_become_another() -> None:
    was, now = identity(), identity()
    now["config"] = tiny_config("elsewhere").resolved()
    [change] = check_identity(was, now, where="", allow=["model.path"])
    assert change.key == "model.path"
    error = refused({**now, "model": OTHER_DIGEST}, "model.path", was=was)
    assert "another model" in error.what


def test_a_key_that_is_none_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r'Did you mean "train.checkpoint_every"'):
        check_identity(identity(), identity(), where="", allow=["train.checkpoints_every"])
    for wrong in ("data", "model", "zzz"):
        with pytest.raises(UsageError, match="no key of the configuration"):
            check_identity(identity(), identity(), where="", allow=[wrong])


def test_every_key_is_either_harmless_or_has_a_reason() -> None:
    """And the sections model, data and objective hold nothing harmless but the places of things."""
    for section, field in Config.model_fields.items():
        for option in field.annotation.model_fields:  # type: ignore[union-attr]
            reason = harm(Change(f"{section}.{option}", "a", "b", {}))
            expected = section in ("engine", "eval") and option != "precision"
            expected |= f"{section}.{option}" in {
                "model.path",
                "model.reference",
                "train.checkpoint_every",
                "train.early_stop",
                "train.evaluate_data",
                "monitor.displacement_stop",
            }
            assert (reason == "") == expected, f"{section}.{option}: {reason}"


def test_identities_without_a_configuration_can_be_told_apart() -> None:
    assert [change.key for change in differences({"config": "a"}, {"config": "b", "data": 1})] == [
        "config",
        "data",
    ]
