"""axolotl's kinds of preference training in terms of `objective`."""

from __future__ import annotations

from penchant.errors import UsageError, did_you_mean
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.notes import Notes

_KINDS = ("dpo", "ipo", "kto", "orpo", "simpo")
_SAMPLING = ("grpo", "gdpo", "ebft")
_BETA = {"dpo": 0.1, "ipo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0}  # ours
_OF_KIND = {
    "beta": ("dpo", "ipo", "kto", "orpo", "simpo"),
    "label_smoothing": ("dpo",),
    "use_weighting": ("dpo", "ipo"),
    "dpo_norm_loss": ("dpo",),
    "rpo_alpha": ("dpo", "ipo"),
    "orpo_alpha": ("orpo",),
    "simpo_gamma": ("simpo",),
    "cpo_alpha": ("simpo",),
    "kto_desirable_weight": ("kto",),
    "kto_undesirable_weight": ("kto",),
}


def migrate_objective(file: TrlFile, notes: Notes) -> None:
    """Write the section `objective`.

    Raises:
        UsageError: The file is for training on own samples, or for no kind of training that is known.
    """
    kind = _kind(file)
    for key, users in _OF_KIND.items():
        if file.has(key) and kind not in users:
            notes.anyway(key, f"without effect in axolotl with rl: {kind or 'null'}")
    if not kind:
        notes.unsaid_only("rl", "without it axolotl trains on the likelihood; objective.loss = sft written")
        _section(notes)["loss"] = "sft"
        return
    notes.write(file, "rl", "objective.loss", kind, ours="dpo")
    _section(notes)["loss"] = kind
    _beta(file, notes, kind)
    {"dpo": _dpo, "ipo": _ipo, "kto": _kto, "orpo": _orpo, "simpo": _simpo}[kind](file, notes)


def _kind(file: TrlFile) -> str:
    if not file.has("rl"):
        return ""
    named = file.word("rl").lower()
    if named in _SAMPLING:
        raise UsageError(
            f"rl: {named} learns from rewards of its own samples, which is no preference training",
            where=file.where,
            fix="`penchant online` trains in rounds on own samples; `penchant compare-rl` compares both ways.",
        )
    if named not in _KINDS:
        raise UsageError(f'rl: "{named}" is no kind of axolotl\'s.{did_you_mean(named, _KINDS)}', where=file.where)
    return named


def _beta(file: TrlFile, notes: Notes, kind: str) -> None:
    """`trl.beta`, else `rl_beta`, else for ORPO `orpo_alpha`, else TRL's 0.1."""
    inner = file.mapping("trl")
    if "beta" in inner:
        _section(notes)["beta"] = file.as_number("trl.beta", inner["beta"])
        notes.converted("trl", "objective.beta")
        if len(inner) > 1:
            rest = ", ".join(str(key) for key in inner if key != "beta")
            notes.missing("trl", f"{rest}: there is no such thing here")
    elif file.has("trl"):
        notes.missing("trl", "it sets up training on own samples, which is `penchant online` here")
    if "beta" in inner:
        if file.has("beta"):
            notes.anyway("beta", "trl.beta decides, in axolotl too")
    elif kind == "orpo" and file.has("orpo_alpha") and not file.has("beta"):
        notes.write(file, "orpo_alpha", "objective.beta", file.number("orpo_alpha"), ours=0.1)
    else:
        notes.write(file, "beta", "objective.beta", file.number("beta"), ours=_BETA[kind])
    if kind == "orpo" and file.has("orpo_alpha") and "orpo_alpha" not in notes.keys():
        notes.anyway("orpo_alpha", "beta decides, in axolotl too")


def _dpo(file: TrlFile, notes: Notes) -> None:
    if file.has("label_smoothing"):
        smoothing = file.number("label_smoothing")
        notes.write(file, "label_smoothing", "objective.label_smoothing", smoothing, ours=0.0)
        if smoothing:
            notes.missing("label_smoothing", "TRL 1.16, on which newer axolotls stand, ignores it with this loss")
    if file.has("dpo_norm_loss"):
        normed = file.flag("dpo_norm_loss")
        notes.write(file, "dpo_norm_loss", "objective.logps", "mean" if normed else "sum", ours="sum")
    _weighting(file, notes)
    _likelihood(file, notes)


def _ipo(file: TrlFile, notes: Notes) -> None:
    _section(notes)["logps"] = "mean"
    notes.converted("rl", "objective.logps = mean, as TRL has it")
    _weighting(file, notes)
    _likelihood(file, notes)


def _weighting(file: TrlFile, notes: Notes) -> None:
    if file.has("use_weighting"):
        weighted = file.flag("use_weighting")
        notes.write(file, "use_weighting", "objective.wpo", weighted, ours=False)
        if weighted:
            notes.missing(
                "use_weighting", "objective.wpo limits a pair's weight to 1, as WPO's authors do; TRL does not"
            )


def _likelihood(file: TrlFile, notes: Notes) -> None:
    if file.has("rpo_alpha"):
        notes.write(file, "rpo_alpha", "objective.nll_weight", file.number("rpo_alpha"), ours=0.0)
        notes.missing("rpo_alpha", _POOLED)


_POOLED = (
    "the likelihood: TRL means over all chosen tokens of a micro-batch, objective.nll_weight over those of each "
    "pair and then over the pairs"
)


def _kto(file: TrlFile, notes: Notes) -> None:
    for key, option in (
        ("kto_desirable_weight", "desirable_weight"),
        ("kto_undesirable_weight", "undesirable_weight"),
    ):
        if file.has(key):
            notes.write(file, key, f"objective.{option}", file.number(key), ours=1.0)


def _orpo(file: TrlFile, notes: Notes) -> None:
    notes.missing("rl", "orpo: TRL's likelihood runs over the prompt too; objective.loss: orpo is the paper's")


def _simpo(file: TrlFile, notes: Notes) -> None:
    gamma = file.number("simpo_gamma") if file.has("simpo_gamma") else 0.5
    alpha = file.number("cpo_alpha") if file.has("cpo_alpha") else 1.0
    section = _section(notes)
    section["gamma"], section["nll_weight"] = gamma, alpha
    if file.has("simpo_gamma"):
        notes.converted("simpo_gamma", f"objective.gamma = {gamma:g}")
    else:
        notes.unsaid_only("simpo_gamma", "TRL's default is 0.5, ours 1; objective.gamma written")
    if file.has("cpo_alpha"):
        notes.converted("cpo_alpha", f"objective.nll_weight = {alpha:g}")
        if alpha:
            notes.missing("cpo_alpha", _POOLED)
    else:
        notes.unsaid_only(
            "cpo_alpha", "TRL adds the likelihood with weight 1, the paper none; objective.nll_weight = 1 written"
        )


def _section(notes: Notes) -> dict[str, object]:
    return notes.values.setdefault("objective", {})
