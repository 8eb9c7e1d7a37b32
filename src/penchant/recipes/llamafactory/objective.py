"""LLaMA-Factory's stages and preference losses in terms of `objective`, as its trainer computes them."""

from __future__ import annotations

from typing import Any

from penchant.errors import UsageError, did_you_mean
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.notes import Notes

_STAGES = ("sft", "dpo", "kto")
_OTHER_STAGES = {
    "pt": "pre-training reads running text, which is no example or pair",
    "rm": "a reward model is another kind of model",
    "ppo": "it learns from rewards of own samples: see `penchant online` and `penchant compare-rl`",
}
_LOSSES = {
    "sigmoid": "dpo",
    "hinge": "hinge",
    "ipo": "ipo",
    "kto_pair": "kto",
    "orpo": "orpo",
    "simpo": "simpo",
}
_MEANS = ("ipo",)  # orpo and simpo are defined on means alone
_BETA = {"dpo": 0.1, "hinge": 0.1, "ipo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0}  # ours
_OF_PAIRS = ("pref_loss", "pref_bco_weight", "label_smoothing", "simpo_gamma", "ld_alpha")
_OF_KTO = ("kto_chosen_weight", "kto_rejected_weight")


def migrate_objective(file: TrlFile, notes: Notes) -> None:
    """Write the section `objective`.

    Raises:
        UsageError: The stage is no training on preferences or examples, or the loss is none of LLaMA-Factory's.
    """
    stage = _stage(file)
    if not file.has("stage"):
        notes.unsaid_only(
            "stage", "LLaMA-Factory's default is sft, ours preferences by DPO; objective.loss written"
        )
    if stage == "sft":
        _write_loss(file, notes, "stage", "sft")
        _without_effect(file, notes, ("beta", "pref_ftx", "ref_model", *_OF_PAIRS, *_OF_KTO), stage)
        return
    if stage == "kto":
        _write_loss(file, notes, "stage", "kto")
        _without_effect(file, notes, _OF_PAIRS, stage)
        _kto_weights(file, notes)
        loss = "kto"
    else:
        loss = _pair_loss(file, notes)
        _without_effect(file, notes, _OF_KTO, stage)
    notes.write(file, "beta", "objective.beta", file.number("beta"), ours=_BETA[loss])
    _likelihood(file, notes, loss)
    _reference(file, notes, loss)


def _stage(file: TrlFile) -> str:
    stage = file.word("stage")
    if stage in _OTHER_STAGES:
        raise UsageError(f"stage: {stage} has no counterpart: {_OTHER_STAGES[stage]}", where=file.where)
    if stage not in _STAGES:
        raise UsageError(f'stage: "{stage}" is no stage.{did_you_mean(stage, _STAGES)}', where=file.where)
    return stage


def _pair_loss(file: TrlFile, notes: Notes) -> str:
    named = file.word("pref_loss")
    if named not in _LOSSES:
        hint = did_you_mean(named, _LOSSES)
        raise UsageError(f'pref_loss: "{named}" is no loss of LLaMA-Factory.{hint}', where=file.where)
    loss = _LOSSES[named]
    if file.has("stage"):
        notes.converted("stage", "objective.loss")
    _write_loss(file, notes, "pref_loss", loss)
    if named in _MEANS:
        _section(notes)["logps"] = "mean"
        notes.converted("pref_loss", "objective.logps = mean")
    if named == "kto_pair":
        notes.missing("pref_loss", "kto_pair: the nearest is KTO, which takes each pair as two labelled responses")
    _smoothing(file, notes, loss)
    _gamma(file, notes, loss)
    _ld_alpha(file, notes, loss)
    _bco(file, notes, loss)
    return loss


def _write_loss(file: TrlFile, notes: Notes, key: str, loss: str) -> None:
    _section(notes)["loss"] = loss
    if file.has(key):
        notes.converted(key, f"objective.loss = {loss}")


def _smoothing(file: TrlFile, notes: Notes, loss: str) -> None:
    if not file.has("label_smoothing"):
        return
    smoothing = file.number("label_smoothing")
    if loss == "dpo":
        notes.write(file, "label_smoothing", "objective.label_smoothing", smoothing, ours=0.0)
    elif smoothing:
        raise UsageError("dpo_label_smoothing goes with pref_loss: sigmoid alone", where=file.where)
    else:
        notes.anyway("label_smoothing", "0 is no smoothing")


def _gamma(file: TrlFile, notes: Notes, loss: str) -> None:
    if loss == "simpo":
        notes.write(file, "simpo_gamma", "objective.gamma", file.number("simpo_gamma"), ours=1.0)
    else:
        _without_effect(file, notes, ("simpo_gamma",), f"pref_loss other than simpo, here {loss}")


def _ld_alpha(file: TrlFile, notes: Notes, loss: str) -> None:
    if not file.has("ld_alpha"):
        return
    if loss not in ("dpo", "hinge") or file.number("pref_ftx"):
        notes.missing("ld_alpha", "objective.ld_alpha goes with losses on sums, without a likelihood; left out")
    elif file.number("ld_alpha") == 1:
        notes.anyway("ld_alpha", "1 weighs every token alike")
    else:
        notes.write(file, "ld_alpha", "objective.ld_alpha", file.number("ld_alpha"), ours=None)
        notes.missing(
            "ld_alpha", "LLaMA-Factory weighs the policy's tokens alone, here and in the paper the reference's too"
        )


def _bco(file: TrlFile, notes: Notes, loss: str) -> None:
    weight = file.number("pref_bco_weight")
    if not weight:
        if file.has("pref_bco_weight"):
            notes.anyway("pref_bco_weight", "0 adds nothing")
    elif loss in ("dpo", "hinge", "ipo"):
        share = weight / (1 + weight)
        notes.write(file, "pref_bco_weight", "objective.loss", {loss: 1 - share, "bco": share}, ours="dpo")
        notes.missing("pref_bco_weight", "its shift is a running mean there, the mean of the step here")
    else:
        notes.missing("pref_bco_weight", f"bco needs the reference, which {loss} has none of; left out")


def _kto_weights(file: TrlFile, notes: Notes) -> None:
    for key, option in (("kto_chosen_weight", "desirable_weight"), ("kto_rejected_weight", "undesirable_weight")):
        notes.write(file, key, f"objective.{option}", file.number(key), ours=1.0)


def _likelihood(file: TrlFile, notes: Notes, loss: str) -> None:
    """Both are means over pairs of the mean over a pair's tokens, so the weight is the same."""
    if not file.has("pref_ftx"):
        return
    weight = file.number("pref_ftx")
    if not weight:
        notes.anyway("pref_ftx", "0 adds nothing")
    elif loss in ("kto", "orpo"):
        notes.missing("pref_ftx", f"objective.nll_weight does not go with {loss}; left out")
    else:
        notes.write(file, "pref_ftx", "objective.nll_weight", weight, ours=0.0)


def _reference(file: TrlFile, notes: Notes, loss: str) -> None:
    if not file.has("ref_model"):
        return
    if loss in ("orpo", "simpo"):
        notes.anyway("ref_model", f"without effect in LLaMA-Factory with {loss}")
    else:
        notes.write(file, "ref_model", "model.reference", file.word("ref_model"), ours=None)


def _without_effect(file: TrlFile, notes: Notes, keys: tuple[str, ...], users: str) -> None:
    for key in keys:
        if file.has(key):
            notes.anyway(key, f"without effect in LLaMA-Factory with {users}")


def _section(notes: Notes) -> dict[str, Any]:
    return notes.values.setdefault("objective", {})
