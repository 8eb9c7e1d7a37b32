"""What TRL's trainers are asked for and what ours is, side by side; nothing here needs TRL.

Both get the policy, the reference and the pairs of `two_models`, as token ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tests.oracles.two_models import pairs

from penchant.types import TokenizedPair

GOLDEN = Path(__file__).parents[1] / "golden" / "trl_losses.json"
PAIRS = pairs(6)
KTO_PAIRS = pairs(4, seed=36)  # strangers are likelier under the policy here: the divergence is not 0
NAMED = "model.layers.0.input_layernorm.weight"  # whose gradient is compared number by number
# What the policy says next, greedily, after (7, 100, 200), and the second likeliest token: more agreeable to WPO
# than what it would draw itself. `test_trl.py` checks that it is so.
LIKELY = TokenizedPair("likely", (7, 100, 200), (197, 255, 139), (28, 119, 192))

Kind = Literal["dpo", "cpo", "orpo", "kto"]
Split = Literal["together", "each"]


@dataclass(frozen=True)
class Case:
    """One question to both.

    Attributes:
        kind: Which of TRL's trainers: DPOTrainer, KTOTrainer, or CPOTrainer and ORPOTrainer, which TRL has in
            `trl.experimental`.
        theirs: Its options; loss_type is a list with the first.
        ours: The section `objective`.
        split: TRL's micro-batches: one of all pairs, or one a pair, whose losses are averaged.
        pairs: What is trained on.
    """

    kind: Kind
    theirs: dict[str, Any]
    ours: dict[str, Any]
    split: Split = "together"
    pairs: list[TokenizedPair] = field(default_factory=lambda: PAIRS)


def _dpo(loss: str, ours: dict[str, Any], **theirs: Any) -> Case:
    beta = ours.get("beta", 0.5)
    with_beta = ours if ours["loss"] == "sft" else {"beta": beta, **ours}
    return Case("dpo", {"loss_type": [loss], "beta": beta, **theirs}, with_beta)


_ALPHA = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3}
_RPO = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7], "beta": 0.5}

# Where both compute the same number, in other words at most.
EQUAL: dict[str, Case] = {
    "sigmoid": _dpo("sigmoid", {"loss": "dpo"}),
    "sigmoid, forward KL": _dpo(
        "sigmoid", {"loss": "dpo", "divergence": "forward_kl"}, f_divergence_type="forward_kl"
    ),
    "sigmoid, Jensen-Shannon": _dpo(
        "sigmoid", {"loss": "dpo", "divergence": "js"}, f_divergence_type="js_divergence"
    ),
    "sigmoid, alpha": _dpo("sigmoid", {"loss": "dpo", "divergence": "alpha", "divergence_alpha": 0.7}, **_ALPHA),
    "sigmoid, LD": _dpo("sigmoid", {"loss": "dpo", "ld_alpha": 0.4}, ld_alpha=0.4),
    "sigmoid, WPO": _dpo("sigmoid", {"loss": "dpo", "wpo": True}, use_weighting=True),
    "sigmoid_norm": _dpo("sigmoid_norm", {"loss": "dpo", "logps": "mean", "beta": 3.0}),
    "robust": _dpo("robust", {"loss": "robust", "label_smoothing": 0.2}, label_smoothing=0.2),
    "hinge": _dpo("hinge", {"loss": "hinge"}),
    "ipo": _dpo("ipo", {"loss": "ipo", "logps": "mean"}),
    "exo_pair": _dpo("exo_pair", {"loss": "exo", "label_smoothing": 0.1}, label_smoothing=0.1),
    "nca_pair": _dpo("nca_pair", {"loss": "nca"}),
    "sppo_hard": _dpo("sppo_hard", {"loss": "sppo"}),
    "aot": _dpo("aot", {"loss": "aot"}),
    "aot, smoothed": _dpo("aot", {"loss": "aot", "label_smoothing": 0.2}, label_smoothing=0.2),
    "apo_zero": _dpo("apo_zero", {"loss": "apo_zero"}),
    "apo_down": _dpo("apo_down", {"loss": "apo_down"}),
    "discopop": _dpo("discopop", {"loss": "discopop", "tau": 0.2}, discopop_tau=0.2),
    "sft": _dpo("sft", {"loss": "sft"}),
    "sigmoid + hinge": Case(
        "dpo",
        {"loss_type": ["sigmoid", "hinge"], "loss_weights": [1.0, 0.5], "beta": 0.5},
        {"loss": {"dpo": 1.0, "hinge": 0.5}, "beta": 0.5},
    ),
    "sigmoid + sft, pair by pair": Case(
        "dpo", _RPO, {"loss": "dpo", "beta": 0.5, "nll_weight": 0.7}, split="each"
    ),
    "CPO without likelihood": Case(
        "cpo",
        {"loss_type": "sigmoid", "beta": 0.5, "cpo_alpha": 0.0},
        {"loss": "cpo", "beta": 0.5, "nll_weight": 0.0},
    ),
    "CPO, pair by pair": Case(
        "cpo", {"loss_type": "sigmoid", "beta": 0.5}, {"loss": "cpo", "beta": 0.5}, split="each"
    ),
    "SimPO": Case(
        "cpo",
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0},
        {"loss": "simpo", "beta": 2.0, "gamma": 1.0},
    ),
    "KTO": Case(
        "kto",
        {"beta": 0.5, "desirable_weight": 1.0, "undesirable_weight": 1.5},
        {"loss": "kto", "beta": 0.5, "undesirable_weight": 1.5},
        pairs=KTO_PAIRS,
    ),
}

# Where they differ; `test_trl.py` says by what.
DIFFERENT: dict[str, Case] = {
    "sigmoid, smoothed": _dpo("sigmoid", {"loss": "dpo", "label_smoothing": 0.3}, label_smoothing=0.3),
    "sigmoid, swapped": replace(EQUAL["sigmoid"], pairs=[pair.swapped() for pair in PAIRS]),
    "bco_pair": replace(_dpo("bco_pair", {"loss": "bco"}), pairs=PAIRS[3:5]),  # their mean reward is far from 0
    "sigmoid + sft, together": Case("dpo", _RPO, {"loss": "dpo", "beta": 0.5, "nll_weight": 0.7}),
    "CPO, together": replace(EQUAL["CPO, pair by pair"], split="together"),
    "aot, pair by pair": replace(EQUAL["aot"], split="each"),
    "sigmoid, WPO, likely": replace(EQUAL["sigmoid, WPO"], pairs=[LIKELY]),
    "ORPO": Case("orpo", {"beta": 0.1}, {"loss": "orpo", "beta": 0.1}),
    "ORPO, 0.5": Case("orpo", {"beta": 0.5}, {"loss": "orpo", "beta": 0.5}),
}

CASES = EQUAL | DIFFERENT

# TR-DPO: whole runs that begin with policy == reference.
MOVING = {"steps": 5, "every": 2, "share": 0.6, "beta": 0.5, "learning_rate": 1e-2, "epsilon": 1e-2}


def labelled(of: list[TokenizedPair]) -> list[TokenizedPair]:
    """Return the responses of pairs one by one with their labels, each with the one before it as KTO's stranger.

    The order and the strangers are those that TRL's KTOTrainer makes of a data set of pairs.
    """
    sides = [(pair, pair.chosen_ids, True) for pair in of] + [(pair, pair.rejected_ids, False) for pair in of]
    return [
        TokenizedPair(f"{pair.id} {label}", pair.prompt_ids, ids, sides[place - 1][1], desirable=label)
        for place, (pair, ids, label) in enumerate(sides)
    ]


def examples(case: Case) -> list[TokenizedPair]:
    """Return what our engine is given: the pairs, or for KTO their responses."""
    return labelled(case.pairs) if case.kind == "kto" else case.pairs
