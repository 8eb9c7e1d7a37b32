"""A configuration of TRL's `trl dpo` as a recipe, with a line about every key that could not be taken over.

Nothing is dropped silently. Every key of the file is spoken about: it stands in the recipe, needs no setting, goes
to the command line, or cannot be expressed. Defaults of TRL's that are not ours are written out or listed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penchant.recipes.account import Migration, account_of
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.notes import Notes
from penchant.recipes.trl.objective import migrate_objective
from penchant.recipes.trl.training import migrate_data, migrate_engine, migrate_model, migrate_training
from penchant.strict_yaml import read_yaml

_DATA_SETS = {
    "Anthropic/hh-rlhf": "hh_rlhf",
    "Dahoas/full-hh-rlhf": "full_hh_rlhf",
    "HuggingFaceH4/ultrafeedback_binarized": "ultrafeedback",
    "openbmb/UltraFeedback": "ultrafeedback_scored",
    "Intel/orca_dpo_pairs": "orca_dpo",
}


def migrate_file(path: Path, *, gpus: int | None = None) -> Migration:
    """Return what a TRL configuration file comes to.

    Args:
        path: YAML for `trl dpo`, or of the alignment handbook's kind: DPOConfig, ModelConfig and data in one
            mapping.
        gpus: Devices that it was written for; None = its own `num_processes`, or 1.

    Raises:
        UsageError: It is not strict YAML, a value has the wrong type, or ours are out of range.
    """
    return migrate(read_yaml(path), gpus=gpus, where=str(path))


def migrate(values: Any, *, gpus: int | None = None, where: str = "TRL configuration") -> Migration:
    """Return what a TRL configuration comes to, see `migrate_file`."""
    trl, notes = TrlFile(values, where), Notes()
    migrate_model(trl, notes)
    migrate_data(trl, notes)
    migrate_objective(trl, notes)
    migrate_training(trl, notes, _devices(trl, notes, gpus))
    migrate_engine(trl, notes)
    _older_options(trl, notes)
    if not trl.has("model_name_or_path"):
        text = (
            "not in the file (TRL takes it on the command line): model.path is the bundled model until you set it"
        )
        notes.unsaid_only("model_name_or_path", text)
    return account_of(trl, notes, _prepare(trl, notes))


def prepare_command(name: str) -> str | None:
    """Return the command that prepares a data set of the Hub which Penchant knows by name, None for any other."""
    return f"penchant prepare {_DATA_SETS[name]} --out data/mine" if name in _DATA_SETS else None


def _devices(trl: TrlFile, notes: Notes, gpus: int | None) -> int:
    if trl.has("num_processes"):
        notes.converted("num_processes", "train.batch_pairs" if gpus is None else "--devices was given instead")
        return trl.count("num_processes") if gpus is None else gpus
    if gpus is None:
        notes.unsaid_only(
            "num_processes", "one device is assumed; --devices says how many the file was written for"
        )
        return 1
    return gpus


def _older_options(trl: TrlFile, notes: Notes) -> None:
    if trl.has("rpo_alpha") and "rpo_alpha" not in notes.keys():
        notes.converted("rpo_alpha", "objective.nll_weight, added to that of sft")
    if trl.has("reference_free") and trl.flag("reference_free"):
        notes.missing(
            "reference_free",
            "no longer in TRL; objective.loss: cpo with nll_weight: 0 is the sigmoid loss without a reference",
        )


def _prepare(trl: TrlFile, notes: Notes) -> str:
    """The command that prepares the data, as far as the file names it."""
    named = trl.get("dataset_name")
    if not isinstance(named, str):
        return "penchant prepare local --source PAIRS.jsonl --out data/mine"
    if (command := prepare_command(named)) is not None:
        notes.elsewhere("dataset_name", f"`{command}`")
        return command
    notes.elsewhere(
        "dataset_name", f"{named}: download it, then `penchant prepare local --source FILE --out data/mine`"
    )
    return "penchant prepare local --source FILE --out data/mine"
