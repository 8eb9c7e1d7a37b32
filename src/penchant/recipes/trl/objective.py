"""TRL's losses in terms of `objective`, equation by equation.

Where the two agree, `beta` has the same unit in both, so it is never rescaled. What is converted: the alpha of the
alpha divergence counts from the other end, and IPO and sigmoid_norm are TRL's names for means in place of sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from penchant.config import OBJECTIVE_OPTIONS
from penchant.errors import UsageError, did_you_mean
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.keys import TRL_VERSION
from penchant.recipes.trl.notes import Notes


@dataclass(frozen=True)
class _Loss:
    """A loss of TRL's.

    Attributes:
        ours: The name of the same or the nearest loss here.
        logps: What it makes of a response's log-probabilities.
        differs: In what the two differ, "" where they are equal.
    """

    ours: str
    logps: str = "sum"
    differs: str = ""


_LOSSES = {
    "sigmoid": _Loss("dpo"),
    "sigmoid_norm": _Loss("dpo", "mean"),
    "hinge": _Loss("hinge"),
    "ipo": _Loss("ipo", "mean"),
    "exo_pair": _Loss("exo"),
    "nca_pair": _Loss("nca"),
    "robust": _Loss("robust"),
    "bco_pair": _Loss(
        "bco",
        differs="TRL leaves out the paper's shift; objective.loss: bco subtracts the mean reward of the step from "
        "every reward",
    ),
    "sppo_hard": _Loss("sppo"),
    "aot": _Loss(
        "aot", differs="TRL sorts the pairs of a micro-batch, objective.loss: aot those of the whole step"
    ),
    "aot_unpaired": _Loss(
        "aot",
        differs="TRL sorts the log-ratios of chosen and rejected apart; the nearest is objective.loss: aot, which "
        "sorts differences of log-probabilities",
    ),
    "apo_zero": _Loss("apo_zero"),
    "apo_down": _Loss("apo_down"),
    "discopop": _Loss("discopop"),
    "sft": _Loss("sft"),
}
_SMOOTHED_BY_TRL = ("robust", "exo_pair", "aot", "aot_unpaired")
_DIVERGENCES = {
    "reverse_kl": "reverse_kl",
    "forward_kl": "forward_kl",
    "js_divergence": "js",
    "alpha_divergence": "alpha",
}
_EXO_SMOOTHING = 1e-3


@dataclass(frozen=True)
class _Chosen:
    """The losses of a file.

    Attributes:
        types: TRL's names, those that were taken over.
        weights: Of our losses of pairs, by name.
        nll_weight: Of the likelihood term.
        logps: What serves all of them.
    """

    types: tuple[str, ...]
    weights: dict[str, float]
    nll_weight: float
    logps: str


def migrate_objective(trl: TrlFile, notes: Notes) -> None:
    """Write the section `objective`.

    Raises:
        UsageError: A loss that TRL does not know, or weights that do not belong to the losses.
    """
    chosen = _chosen(trl, notes)
    _write_losses(trl, notes, chosen)
    if not chosen.weights:
        _without_effect(
            trl, notes, ("beta", "label_smoothing", "use_weighting", "ld_alpha", "discopop_tau"), "sft"
        )
        _without_effect(trl, notes, ("f_divergence_type", "f_alpha_divergence_coef", *_SYNC), "sft")
        return
    notes.write(trl, "beta", "objective.beta", trl.number("beta"), ours=_own_default(chosen, "beta"))
    _smoothing(trl, notes, chosen)
    _divergence(trl, notes, chosen)
    _lengths(trl, notes, chosen)
    _weighting(trl, notes, chosen)
    _moving_reference(trl, notes)
    if "discopop" in chosen.weights:
        notes.write(trl, "discopop_tau", "objective.tau", trl.number("discopop_tau"), ours=0.05)
    else:
        _without_effect(trl, notes, ("discopop_tau",), "losses other than discopop")


def _chosen(trl: TrlFile, notes: Notes) -> _Chosen:
    types: list[str] = []
    weights: dict[str, float] = {}
    nll_weight, logps = 0.0, ""
    for name, weight in zip(*_types_and_weights(trl), strict=True):
        loss = _LOSSES[name]
        if weight <= 0:
            reason = "its weight is 0; left out" if weight == 0 else "weights below 0 are not taken; left out"
            notes.missing("loss_weights", f"{name}: {reason}")
        elif name == "sft":
            nll_weight += weight
            types.append(name)
        elif logps and loss.logps != logps:
            notes.missing(
                "loss_type", f"{name} uses {loss.logps}s and one objective.logps serves all losses; left out"
            )
        elif any(_LOSSES[other].ours == loss.ours and other != name for other in types):
            notes.missing("loss_type", f"{name} and another loss of the list are {loss.ours} here; left out")
        else:
            logps = loss.logps
            weights[loss.ours] = weights.get(loss.ours, 0.0) + weight
            if loss.differs and name not in types:
                notes.missing("loss_type", f"{name}: {loss.differs}")
            types.append(name)
    if not types:
        raise UsageError("loss_type: no loss is left that Penchant could take over", where=trl.where)
    if trl.has("rpo_alpha"):
        nll_weight += trl.number("rpo_alpha")
    return _Chosen(tuple(types), weights, nll_weight, logps or "sum")


def _types_and_weights(trl: TrlFile) -> tuple[list[str], list[float]]:
    types = trl.listed("loss_type")
    for name in types:
        if not isinstance(name, str) or name not in _LOSSES:
            raise UsageError(
                f'loss_type: "{name}" is no loss of TRL {TRL_VERSION}.{did_you_mean(str(name), _LOSSES)}',
                where=trl.where,
            )
    weights = trl.listed("loss_weights") or [1.0] * len(types)
    if len(weights) != len(types):
        raise UsageError(f"{len(weights)} loss_weights for {len(types)} losses of loss_type", where=trl.where)
    if not all(isinstance(weight, (int, float)) and not isinstance(weight, bool) for weight in weights):
        raise UsageError(f"loss_weights = {weights!r}: numbers are expected", where=trl.where)
    return types, [float(weight) for weight in weights]


def _write_losses(trl: TrlFile, notes: Notes, chosen: _Chosen) -> None:
    if not chosen.weights:
        notes.write(trl, "loss_type", "objective.loss", "sft", ours="dpo")
        if trl.has("rpo_alpha"):
            notes.missing("rpo_alpha", "the loss is the likelihood alone; left out")
        return
    names = list(chosen.weights)
    value: Any = names[0] if chosen.weights == {names[0]: 1.0} else chosen.weights
    notes.write(trl, "loss_type", "objective.loss", value, ours="dpo")
    if trl.has("loss_weights"):
        notes.converted("loss_weights", "objective.loss")
    if chosen.logps != "sum":
        notes.write(trl, "loss_type", "objective.logps", chosen.logps, ours="sum")
    if not chosen.nll_weight:
        return
    key = "loss_type" if "sft" in chosen.types else "rpo_alpha"
    notes.write(trl, key, "objective.nll_weight", chosen.nll_weight, ours=0.0)
    notes.missing(
        key,
        "the likelihood term: TRL means over all chosen tokens of a micro-batch, objective.nll_weight over those "
        "of each pair and then over the pairs, so long responses count less here",
    )


def _smoothing(trl: TrlFile, notes: Notes, chosen: _Chosen) -> None:
    smoothing = trl.number("label_smoothing")
    users = [name for name in chosen.types if name in _SMOOTHED_BY_TRL]
    if not users:
        if trl.has("label_smoothing") and smoothing:
            notes.missing(
                "label_smoothing",
                f"TRL {TRL_VERSION} ignores it with {', '.join(chosen.types)}, so it is left out"
                + (
                    "; objective.label_smoothing would make it the conservative DPO"
                    if "dpo" in chosen.weights
                    else ""
                ),
            )
        elif trl.has("label_smoothing"):
            notes.anyway("label_smoothing", "0 is no smoothing")
        return
    if "exo_pair" in users and not smoothing:
        notes.missing(
            "label_smoothing", f"EXO's loss is infinite at 0, and TRL refuses it; {_EXO_SMOOTHING} written"
        )
        smoothing = _EXO_SMOOTHING
    notes.write(
        trl,
        "label_smoothing",
        "objective.label_smoothing",
        smoothing,
        ours=None if "exo_pair" in users else _own_default(chosen, "label_smoothing"),
    )
    if "dpo" in chosen.weights and smoothing:
        notes.missing("label_smoothing", f"TRL applies it to {', '.join(users)} alone; here dpo is smoothed too")


def _divergence(trl: TrlFile, notes: Notes, chosen: _Chosen) -> None:
    named = trl.word("f_divergence_type")
    if named not in _DIVERGENCES:
        hint = did_you_mean(named, _DIVERGENCES)
        raise UsageError(f'f_divergence_type: "{named}" is no divergence of TRL.{hint}', where=trl.where)
    ours, alpha = _DIVERGENCES[named], None
    if ours == "alpha":
        ours, alpha = _alpha_divergence(trl, notes)
    else:
        _without_effect(trl, notes, ("f_alpha_divergence_coef",), "f_divergence_types other than alpha_divergence")
    if ours != "reverse_kl" and (list(chosen.weights) != ["dpo"] or chosen.logps != "sum"):
        notes.missing(
            "f_divergence_type",
            f"{named}: objective.divergence is for the loss dpo on sums, not for {', '.join(chosen.types)}; "
            "reverse_kl is left",
        )
        return
    notes.write(trl, "f_divergence_type", "objective.divergence", ours, ours="reverse_kl")
    if alpha is not None:
        notes.write(
            trl,
            "f_alpha_divergence_coef",
            "objective.divergence_alpha",
            alpha,
            ours=0.5,
            how="it counts from the other end: 1 - TRL's",
        )


def _alpha_divergence(trl: TrlFile, notes: Notes) -> tuple[str, float | None]:
    """TRL's f'(u) is (u^(a - 1) - 1) / (a - 1), ours (1 - u^-b) / b: equal for b = 1 - a."""
    coefficient = trl.number("f_alpha_divergence_coef")
    alpha = round(1 - coefficient, 12)
    if math.isclose(coefficient, 1.0, abs_tol=1e-6):
        notes.anyway("f_alpha_divergence_coef", "1 is the reverse KL, which objective.divergence says")
        return "reverse_kl", None
    if alpha == 1:
        notes.anyway("f_alpha_divergence_coef", "0 is the forward KL, which objective.divergence says")
        return "forward_kl", None
    if 0 < alpha < 1:
        return "alpha", alpha
    notes.missing(
        "f_alpha_divergence_coef", f"{coefficient:g}: only values between 0 and 1 are built; reverse_kl is left"
    )
    return "reverse_kl", None


def _lengths(trl: TrlFile, notes: Notes, chosen: _Chosen) -> None:
    if not trl.has("ld_alpha"):
        return
    alpha = trl.number("ld_alpha")
    if alpha == 1:
        notes.anyway("ld_alpha", "1 weighs every token alike")
    elif chosen.logps != "sum":
        notes.missing(
            "ld_alpha", "objective.ld_alpha weighs the terms of a sum, and this loss uses means; left out"
        )
    elif chosen.nll_weight:
        notes.missing("ld_alpha", "objective.ld_alpha is not combined with objective.nll_weight; left out")
    else:
        notes.write(trl, "ld_alpha", "objective.ld_alpha", alpha, ours=None)


def _weighting(trl: TrlFile, notes: Notes, chosen: _Chosen) -> None:
    if not trl.has("use_weighting"):
        return
    weighted = trl.flag("use_weighting")
    notes.write(trl, "use_weighting", "objective.wpo", weighted, ours=False)
    if weighted:
        rest = "; TRL weighs the likelihood term too" if chosen.nll_weight else ""
        notes.missing(
            "use_weighting", f"objective.wpo limits a pair's weight to 1, as WPO's authors do, TRL does not{rest}"
        )


_SYNC = ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps")


def _moving_reference(trl: TrlFile, notes: Notes) -> None:
    share = trl.number("ref_model_mixup_alpha")
    if not trl.flag("sync_ref_model") or not share:
        why = "sync_ref_model is off" if share else "a share of 0 never moves the reference"
        for key in _SYNC:
            if trl.has(key):
                notes.anyway(key, f"without effect: {why}")
        return
    notes.converted("sync_ref_model", "objective.reference_every")
    notes.write(
        trl, "ref_model_sync_steps", "objective.reference_every", trl.count("ref_model_sync_steps"), ours=None
    )
    notes.write(
        trl,
        "ref_model_mixup_alpha",
        "objective.reference_share",
        share,
        ours=0.6,
        how="both are the policy's share",
    )


def _without_effect(trl: TrlFile, notes: Notes, keys: tuple[str, ...], users: str) -> None:
    for key in keys:
        if trl.has(key):
            notes.anyway(key, f"without effect in TRL with {users}")


def _own_default(chosen: _Chosen, option: str) -> Any:
    """The default of an option for these losses; None where they do not share one, so that it is written."""
    found = {OBJECTIVE_OPTIONS[name][option] for name in chosen.weights if option in OBJECTIVE_OPTIONS[name]}
    return found.pop() if len(found) == 1 else None
