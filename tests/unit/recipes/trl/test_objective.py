"""TRL's losses in ours: names, weights, and the equations where they are written differently."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from penchant.config import build_config
from penchant.errors import UsageError
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import pair_losses
from penchant.recipes.account import Migration
from penchant.recipes.trl.migration import migrate


def objective(**keys: Any) -> dict[str, Any]:
    return migrate(keys).values.get("objective", {})


def lost(migration: Migration) -> dict[str, str]:
    return {note.key: note.text for note in migration.lost}


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("sigmoid", {"loss": "dpo"}),
        (["sigmoid_norm"], {"loss": "dpo", "logps": "mean"}),
        ("hinge", {"loss": "hinge"}),
        ("ipo", {"loss": "ipo", "logps": "mean"}),
        ("nca_pair", {"loss": "nca"}),
        ("robust", {"loss": "robust", "label_smoothing": 0.0}),
        ("bco_pair", {"loss": "bco"}),
        ("sppo_hard", {"loss": "sppo", "beta": 0.1}),
        ("aot", {"loss": "aot"}),
        ("aot_unpaired", {"loss": "aot"}),
        ("apo_zero", {"loss": "apo_zero"}),
        ("apo_down", {"loss": "apo_down"}),
        ("discopop", {"loss": "discopop"}),
        ("sft", {"loss": "sft"}),
        (["sigmoid", "sft"], {"loss": "dpo", "nll_weight": 1.0}),
        (["sigmoid", "hinge"], {"loss": {"dpo": 1.0, "hinge": 1.0}}),
        (["sigmoid", "sigmoid"], {"loss": {"dpo": 2.0}}),
    ],
)
def test_every_loss_has_its_name_here(loss_type: Any, expected: dict[str, Any]) -> None:
    found = objective(loss_type=loss_type)
    assert {name: value for name, value in found.items() if name in expected} == expected
    assert set(found) == set(expected)


def trl_loss(name: str, c: float, r: float, tokens: tuple[int, int], beta: float, e: float) -> float:
    """The loss of a pair as TRL's documentation and papers have it, from sums of log-ratios."""
    margin = c - r
    per_token = c / tokens[0] - r / tokens[1]

    def nls(value: float) -> float:
        return math.log1p(math.exp(-value))

    def s(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    return {
        "sigmoid": lambda: nls(beta * margin),
        "sigmoid_norm": lambda: nls(beta * per_token),
        "hinge": lambda: max(0.0, 1 - beta * margin),
        "ipo": lambda: (per_token - 1 / (2 * beta)) ** 2,
        "exo_pair": lambda: (
            s(beta * margin) * math.log(s(beta * margin) / (1 - e))
            + s(-beta * margin) * math.log(s(-beta * margin) / e)
        ),
        "nca_pair": lambda: nls(beta * c) + 0.5 * nls(-beta * c) + 0.5 * nls(-beta * r),
        "robust": lambda: ((1 - e) * nls(beta * margin) - e * nls(-beta * margin)) / (1 - 2 * e),
        "sppo_hard": lambda: (c - 0.5 / beta) ** 2 + (r + 0.5 / beta) ** 2,
        "apo_zero": lambda: 1 - s(beta * c) + s(beta * r),
        "apo_down": lambda: s(beta * c) + 1 - s(beta * margin),
        "discopop": lambda: (
            (1 - s(beta * margin / 0.05)) * nls(beta * margin) + s(beta * margin / 0.05) * math.exp(-beta * margin)
        ),
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "sppo_hard", "apo_zero",
     "apo_down", "discopop"],
)  # fmt: skip
@pytest.mark.parametrize("beta", [0.1, 2.5])
def test_what_is_taken_over_as_equal_has_the_same_value(name: str, beta: float) -> None:
    smoothing = 0.2 if name in ("exo_pair", "robust") else 0.0
    found = migrate({"loss_type": name, "beta": beta, "label_smoothing": smoothing})
    assert "loss_type" not in lost(found)
    config = build_config({"objective": found.values["objective"]}).objective
    tokens = torch.tensor([4.0], dtype=torch.float64), torch.tensor([9.0], dtype=torch.float64)

    def logps(chosen: float, rejected: float) -> PairLogps:
        found = (torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected))
        return PairLogps(next(found), next(found), *tokens)

    ours = float(pair_losses(config)(logps(-11.0, -19.0), logps(-12.5, -18.2)))
    assert ours == pytest.approx(trl_loss(name, 1.5, -0.8, (4, 9), beta, smoothing), rel=1e-6)


@pytest.mark.parametrize("name", ["bco_pair", "aot", "aot_unpaired"])
def test_a_loss_that_is_only_near_says_in_what_it_differs(name: str) -> None:
    assert lost(migrate({"loss_type": name}))["loss_type"].startswith(f"{name}: ")


def test_weights_are_taken_over_and_the_likelihood_becomes_its_own_option() -> None:
    found = migrate({"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.5]})
    assert found.values["objective"] == {"loss": {"dpo": 0.8, "bco": 0.2}, "nll_weight": 1.5}
    assert "over all chosen tokens" in " ".join(note.text for note in found.lost)
    assert objective(loss_type="sigmoid", rpo_alpha=0.5) == {"loss": "dpo", "nll_weight": 0.5}
    assert objective(loss_type=["sigmoid", "sft"], rpo_alpha=0.5)["nll_weight"] == 1.5
    assert objective(loss_type=["sigmoid", "hinge"], loss_weights=[1.0, 0.0]) == {"loss": "dpo"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss_type": "sigmod"}, '"sigmod" is no loss of TRL 1.16. Did you mean "sigmoid"'),
        ({"loss_type": [["sigmoid"]]}, "is no loss of TRL"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "1 loss_weights for 2 losses"),
        ({"loss_type": ["sigmoid"], "loss_weights": ["much"]}, "numbers are expected"),
        ({"loss_type": ["sigmoid"], "loss_weights": [0]}, "no loss is left"),
        ({"beta": 0}, "objective.beta = 0"),
        ({"beta": "strong"}, "beta = 'strong': a number is expected"),
        ({"f_divergence_type": "reverse"}, 'no divergence of TRL. Did you mean "reverse_kl"'),
        ({"loss_type": "robust", "label_smoothing": 0.5}, "objective.label_smoothing = 0.5"),
    ],
)
def test_what_trl_would_not_take_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        migrate(keys)
    assert message in str(caught.value)


def test_losses_that_cannot_share_one_normalisation_or_name_are_left_out_with_the_reason() -> None:
    found = migrate({"loss_type": ["sigmoid", "ipo", "aot", "aot_unpaired"]})
    assert found.values["objective"]["loss"] == {"dpo": 1.0, "aot": 1.0}
    texts = [note.text for note in found.lost]
    assert any(text.startswith("ipo uses means") for text in texts)
    assert any("aot_unpaired and another loss" in text for text in texts)


def test_smoothing_that_trl_ignores_is_not_made_effective() -> None:
    found = migrate({"loss_type": "sigmoid", "label_smoothing": 0.1})
    assert "label_smoothing" not in found.values["objective"]
    assert "ignores it" in lost(found)["label_smoothing"]
    assert "conservative DPO" in lost(found)["label_smoothing"]
    assert objective(loss_type="robust", label_smoothing=0.2)["label_smoothing"] == 0.2
    assert objective(loss_type="exo_pair")["label_smoothing"] == 1e-3
    mixed = migrate({"loss_type": ["sigmoid", "robust"], "label_smoothing": 0.1})
    assert "dpo is smoothed too" in lost(mixed)["label_smoothing"]


@pytest.mark.parametrize("coefficient", [0.3, 0.5, 0.9])
def test_the_alpha_divergence_counts_from_the_other_end(coefficient: float) -> None:
    """TRL's f'(u) = (u^(a - 1) - 1) / (a - 1) gives the loss that the migrated objective gives."""
    found = objective(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=coefficient)
    assert found["divergence"] == "alpha"
    config = build_config({"objective": found}).objective
    one = torch.ones(1, dtype=torch.float64)
    ours = pair_losses(config)(PairLogps(-2 * one, -5 * one, one, one), PairLogps(-3 * one, -4 * one, one, one))

    def bent(log_ratio: float) -> float:
        return (math.exp((coefficient - 1) * log_ratio) - 1) / (coefficient - 1)

    assert float(ours) == pytest.approx(math.log1p(math.exp(-0.1 * (bent(1.0) - bent(-1.0)))), rel=1e-6)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"f_divergence_type": "forward_kl"}, {"divergence": "forward_kl"}),
        ({"f_divergence_type": "js_divergence"}, {"divergence": "js"}),
        ({"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.0}, {"divergence": "forward_kl"}),
        ({"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1.0}, {"divergence": "reverse_kl"}),
        ({"ld_alpha": 0.3}, {"ld_alpha": 0.3}),
        ({"ld_alpha": 1.0}, {}),
        ({"use_weighting": True}, {"wpo": True}),
        ({"discopop_tau": 0.1}, {}),
        ({"loss_type": "discopop", "discopop_tau": 0.1}, {"loss": "discopop", "tau": 0.1}),
        ({"sync_ref_model": True}, {"reference_every": 512}),
        (
            {"sync_ref_model": True, "ref_model_mixup_alpha": 0.9, "ref_model_sync_steps": 64},
            {"reference_every": 64, "reference_share": 0.9},
        ),
        ({"sync_ref_model": False, "ref_model_mixup_alpha": 0.9}, {}),
        ({"beta": "5e-2"}, {"beta": 0.05}),
    ],
)
def test_options_of_the_loss(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    assert objective(**keys) == expected


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"loss_type": "hinge", "f_divergence_type": "forward_kl"}, "f_divergence_type"),
        ({"loss_type": "sigmoid_norm", "f_divergence_type": "js_divergence"}, "f_divergence_type"),
        ({"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 2.0}, "f_alpha_divergence_coef"),
        ({"loss_type": "ipo", "ld_alpha": 0.5}, "ld_alpha"),
        ({"loss_type": ["sigmoid", "sft"], "ld_alpha": 0.5}, "ld_alpha"),
        ({"reference_free": True}, "reference_free"),
        ({"loss_type": "sft", "rpo_alpha": 1.0}, "rpo_alpha"),
        ({"loss_type": ["sigmoid", "hinge"], "loss_weights": [1.0, -1.0]}, "loss_weights"),
    ],
)
def test_options_that_have_no_twin_are_listed_and_left_out(keys: dict[str, Any], key: str) -> None:
    found = migrate(keys)
    assert key in lost(found)
    written = found.values.get("objective", {})
    assert written.get("divergence", "reverse_kl") == "reverse_kl"
    assert not {"divergence_alpha", "ld_alpha"} & set(written)
    assert ("nll_weight" in written) == (keys.get("loss_type") == ["sigmoid", "sft"])
