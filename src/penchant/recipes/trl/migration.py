"""A configuration of TRL's `trl dpo` as a recipe, with a line about every key that could not be taken over.

Nothing is dropped silently. Every key of the file is spoken about: it stands in the recipe, needs no setting, goes
to the command line, or cannot be expressed. Defaults of TRL's that are not ours are written out or listed.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import build_config
from penchant.errors import UsageError
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.keys import KEYS, OLD_KEYS, TRL_VERSION, Key
from penchant.recipes.trl.notes import Note, Notes, shown
from penchant.recipes.trl.objective import migrate_objective
from penchant.recipes.trl.training import migrate_data, migrate_engine, migrate_model, migrate_training
from penchant.strict_yaml import parse_yaml, read_yaml

_DATA_SETS = {
    "Anthropic/hh-rlhf": "hh_rlhf",
    "Dahoas/full-hh-rlhf": "full_hh_rlhf",
    "HuggingFaceH4/ultrafeedback_binarized": "ultrafeedback",
    "openbmb/UltraFeedback": "ultrafeedback_scored",
    "Intel/orca_dpo_pairs": "orca_dpo",
}
_SECTIONS = ("model", "data", "objective", "train", "engine")
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_WIDTH = 110

ALWAYS = (
    "The learning rate is one step ahead of TRL's, whose first step of a warm-up has the rate 0.",
    "The order of the pairs is another one, whatever the seed.",
    "Rows whose prompt is a string are put into the chat template here; TRL takes them as they are: for that set "
    "data.format to plain.",
)
"""What differs from TRL in every run, beyond any key."""


@dataclass(frozen=True)
class Migration:
    """A recipe made of a TRL file.

    Attributes:
        values: The recipe as plain data; `penchant.config.build_config` takes it.
        taken: Keys whose value stands in it.
        needless: Keys that need no setting here.
        placed: Keys that go to the command line.
        lost: Keys that cannot be expressed, or only nearly, each with the reason or the nearest thing.
        unsaid: Keys that the file leaves to TRL's default, which is not ours.
        prepare: The command that prepares the data.
    """

    values: dict[str, dict[str, Any]]
    taken: tuple[Note, ...]
    needless: tuple[Note, ...]
    placed: tuple[Note, ...]
    lost: tuple[Note, ...]
    unsaid: tuple[Note, ...]
    prepare: str

    def groups(self) -> list[tuple[str, tuple[Note, ...]]]:
        """Return the lines about keys under a heading each, what matters most first; empty groups are left out."""
        found = [
            ("Cannot be expressed, or only nearly", self.lost),
            (f"Not said in the file, and TRL {TRL_VERSION}'s default is not ours", self.unsaid),
            ("Goes to the command line", self.placed),
            ("Needs no setting here", self.needless),
            ("Taken over", self.taken),
        ]
        return [(title, notes) for title, notes in found if notes]


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
    prepare = _prepare(trl, notes)
    for key in trl.said:
        if key not in notes.keys():
            _by_table(trl, notes, key)
    for key, hint in trl.unknown.items():
        notes.missing(key, hint)
    ordered = {name: notes.values[name] for name in _SECTIONS if name in notes.values}
    build_config(ordered, where=where)
    groups = (notes.taken, notes.needless, notes.placed, notes.lost, notes.unsaid)
    return Migration(ordered, *(tuple(_named(trl, group)) for group in groups), prepare=prepare)


def migration_text(migration: Migration, source: str) -> str:
    """Return the recipe as YAML, with a line in a comment about every key that did not find its way into it.

    Args:
        migration: From `migrate`.
        source: The name of the file that it was made of.

    Raises:
        UsageError: A value cannot be written as YAML that reads back the same.
    """
    lines = _comment(f"Made from the TRL configuration {source} by `penchant migrate`.")
    for title, notes in migration.groups():
        if notes is not migration.taken:
            lines += _comment(f"{title}:")
            lines += [line for note in notes for line in _comment(f"  {note.key}: {note.text}")]
    lines += _comment("In every run:")
    lines += [line for text in ALWAYS for line in _comment(f"  {text}")]
    for section, options in migration.values.items():
        lines.append(f"{section}:")
        lines += [f"  {option}: {_scalar(value)}" for option, value in options.items()]
    text = "\n".join(lines) + "\n"
    if parse_yaml(text, where=source) != migration.values:
        raise UsageError("a value of it cannot be written as YAML that reads back the same", where=source)
    return text


def _devices(trl: TrlFile, notes: Notes, gpus: int | None) -> int:
    if trl.has("num_processes"):
        notes.converted("num_processes", "train.batch_pairs" if gpus is None else "--gpus was given instead")
        return trl.count("num_processes") if gpus is None else gpus
    if gpus is None:
        notes.unsaid_only("num_processes", "one device is assumed; --gpus says how many the file was written for")
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
    if named in _DATA_SETS:
        command = f"penchant prepare {_DATA_SETS[named]} --out data/mine"
        notes.elsewhere("dataset_name", f"`{command}`")
        return command
    notes.elsewhere(
        "dataset_name", f"{named}: download it, then `penchant prepare local --source FILE --out data/mine`"
    )
    return "penchant prepare local --source FILE --out data/mine"


def _by_table(trl: TrlFile, notes: Notes, key: str) -> None:
    """Say what the table says of a key that no conversion has spoken about."""
    value, known = trl.said[key], KEYS.get(key) or OLD_KEYS[key]
    old = "no longer in TRL; " if key in OLD_KEYS else ""
    if value is None or (key in KEYS and value == known.default):
        notes.anyway(key, "TRL's default")
    elif known.fate == "elsewhere":
        notes.elsewhere(key, old + known.why)
    elif known.fate == "anyway" or (key in OLD_KEYS and value is False):
        notes.anyway(key, old + known.why)
    else:
        notes.missing(key, old + _reason(known, value))


def _reason(known: Key, value: Any) -> str:
    return known.why or f"{shown(value)}: Penchant does not use it here"


def _named(trl: TrlFile, notes: list[Note]) -> list[Note]:
    """The notes with the names that stand in the file."""
    return [Note(trl.old_names.get(note.key, note.key), note.text) for note in notes]


def _comment(text: str) -> list[str]:
    """A text as comment lines; what follows the first is indented further."""
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    indent = " " * (len(text) - len(text.lstrip()))
    lines = textwrap.wrap(text, _WIDTH, initial_indent="", subsequent_indent=f"{indent}  ", break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _scalar(value: Any) -> str:
    """A value in YAML's flow form, which JSON is, but plain where that reads the same."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and parse_yaml(value, where="value") == value:
        return value
    return json.dumps(value, ensure_ascii=False)
