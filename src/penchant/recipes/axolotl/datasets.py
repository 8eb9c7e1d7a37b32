"""What becomes of axolotl's list of data sets: the command that prepares it, and a word on how rows are read."""

from __future__ import annotations

from typing import Any

from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.migration import prepare_command
from penchant.recipes.trl.notes import Notes

_READ = ("default", "argilla_chat", "argilla", "icr", "intel", "prompt_pairs", "ultra")
_COLUMNS = {"field_messages": "messages", "field_chosen": "chosen", "field_rejected": "rejected"}
_OWN_COLUMNS = {
    "field_prompt": "prompt",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
    "field_system": "system",
    "field_completion": "completion",
    "field_label": "label",
}
_FORMATS = ("prompt_format", "chosen_format", "rejected_format", "completion_format")
_ROLES = {"system": ["system"], "user": ["user", "human"], "assistant": ["assistant", "gpt"], "tool": ["tool"]}


def migrate_datasets(file: TrlFile, notes: Notes) -> str:
    """Speak about `datasets`, `test_datasets` and `val_set_size`; return the command that prepares the data."""
    entries = [entry for entry in file.listed("datasets") if isinstance(entry, dict)]
    command = _command(entries)
    if file.has("test_split_size"):
        share = file.number("test_split_size")
        if 0 < share < 1:
            notes.elsewhere("test_split_size", f"`penchant prepare ... --test-fraction {share:g}`")
            command += f" --test-fraction {share:g}"
        elif share:
            notes.missing(
                "test_split_size", f"{share:g} rows: --test-fraction of `penchant prepare` takes a share"
            )
    for entry in entries:
        notes.elsewhere("datasets", f"`{_command([entry])}`")
        for text in _differences(entry):
            notes.missing("datasets", text)
    if len(entries) > 1:
        notes.missing("datasets", "several data sets become one with `penchant prepare mix --mix A=0.5,B=0.5`")
    if file.has("datasets") and not entries:
        notes.missing("datasets", "no entry of it is a mapping with a path")
    if file.has("test_datasets"):
        notes.elsewhere("test_datasets", "`penchant prepare` each, and --set train.evaluate_data=FILE")
    return command


def _command(entries: list[dict[str, Any]]) -> str:
    if not entries:
        return "penchant prepare local --source PAIRS.jsonl --out data/mine"
    path = str(entries[0].get("path") or "FILE")
    known = prepare_command(path)
    if known is not None:
        return known
    files = entries[0].get("data_files")
    file = files if isinstance(files, str) else files[0] if isinstance(files, list) and files else None
    if file is None and path.endswith((".json", ".jsonl", ".csv", ".parquet")):
        file = path
    return f"penchant prepare local --source {file or 'FILE'} --out data/mine"


def _differences(entry: dict[str, Any]) -> list[str]:
    """What of a data set's entry the reader of rows cannot follow."""
    path, kind = str(entry.get("path") or "a data set"), entry.get("type")
    found: list[str] = []
    if prepare_command(path) is None and not entry.get("data_files") and "." not in path.rpartition("/")[2]:
        found.append(f"{path}: download it first; `penchant prepare local` reads files")
    if isinstance(kind, dict):
        found += _renamed(path, kind, _OWN_COLUMNS)
        found += [
            f"{path}: {name} puts text around it; only the chat template does that here"
            for name in _FORMATS
            if kind.get(name) not in (None, _plain(name))
        ]
    elif isinstance(kind, str) and kind.rpartition(".")[2] not in (*_READ, "chat_template"):
        found.append(f"{path}: rows of type {kind} are not read; see docs/data.md for those that are")
    found += _renamed(path, entry, _COLUMNS)
    mapping = entry.get("message_property_mappings") or {}
    if isinstance(mapping, dict) and any(
        (name, column) not in (("role", "role"), ("content", "content"), ("role", "from"), ("content", "value"))
        for name, column in mapping.items()
    ):
        found.append(f"{path}: messages are {{role, content}} or {{from, value}}; rename their keys")
    roles = entry.get("roles") or {}
    if isinstance(roles, dict):
        strange = [
            word for role, words in roles.items() for word in words or () if word not in _ROLES.get(role, ())
        ]
        if strange:
            found.append(f"{path}: these roles are not known: {', '.join(map(str, strange))}; rename them")
    for key in ("chat_template", "chat_template_jinja"):
        if entry.get(key) not in (None, "tokenizer_default"):
            found.append(f"{path}: {key}: the tokenizer's own template is used")
    return found


def _renamed(path: str, entry: dict[str, Any], columns: dict[str, str]) -> list[str]:
    return [
        f"{path}: rename the column {entry[field]} to {ours}"
        for field, ours in columns.items()
        if entry.get(field) not in (None, ours)
    ]


def _plain(name: str) -> str:
    return f"{{{name.removesuffix('_format')}}}"
