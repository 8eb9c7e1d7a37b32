"""What becomes of LLaMA-Factory's data sets: the command that prepares them, and what of rows to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penchant.errors import DataError
from penchant.recipes.trl.file import TrlFile
from penchant.recipes.trl.migration import prepare_command
from penchant.recipes.trl.notes import Notes

_INFO = "dataset_info.json"
_MOST_BYTES = 16 << 20
# What the reader of rows calls a column, by what a data set's entry calls it; several where it knows several.
_COLUMNS = {
    "prompt": ("instruction", "prompt", "question"),
    "query": ("input",),
    "response": ("output",),
    "history": ("history",),
    "system": ("system", "system_prompt"),
    "messages": ("conversations", "messages"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "kto_tag": ("kto_tag", "label"),
}
_TAGS = {
    "role_tag": ("from", "role"),
    "content_tag": ("value", "content"),
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call",),
    "system_tag": ("system",),
}


def migrate_datasets(file: TrlFile, notes: Notes, folder: Path | None) -> str:
    """Speak about data sets, samples and the validation set; return the command that prepares the data.

    Raises:
        DataError: There is a dataset_info.json beside, and it is no JSON object.
    """
    names = _names(file.get("dataset"))
    info_file = _info_file(file, folder)
    info = {} if info_file is None else _read_info(info_file)
    command = (
        _command(names[0], info, info_file) if names else "penchant prepare local --source FILE --out data/mine"
    )
    for name in names:
        notes.elsewhere("dataset", f"`{_command(name, info, info_file)}`")
        for text in _differences(name, info, info_file):
            notes.missing("dataset", text)
    if len(names) > 1:
        notes.missing("dataset", "several data sets become one with `penchant prepare mix --mix A=0.5,B=0.5`")
    if file.has("eval_dataset"):
        notes.elsewhere("eval_dataset", "`penchant prepare` it, and --set train.evaluate_data=FILE")
    if file.has("dataset_dir"):
        found = f"{info_file} is read" if info_file else f"there is no {_INFO} there to read; look at its columns"
        notes.elsewhere("dataset_dir", found)
    return command + _amounts(file, notes)


def _amounts(file: TrlFile, notes: Notes) -> str:
    options = ""
    if file.has("max_samples"):
        options += f" --limit {file.count('max_samples')}"
        notes.elsewhere("max_samples", f"`penchant prepare ... --limit {file.count('max_samples')}`")
    if file.has("test_split_size"):
        share = file.number("test_split_size")
        if 0 < share < 1:
            options += f" --test-fraction {share:g}"
            notes.elsewhere("test_split_size", f"`penchant prepare ... --test-fraction {share:g}`")
        elif share:
            notes.missing(
                "test_split_size", f"{share:g} rows: --test-fraction of `penchant prepare` takes a share"
            )
    return options


def _names(value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [str(part).strip() for part in parts]


def _info_file(file: TrlFile, folder: Path | None) -> Path | None:
    """The registry of data sets, from the file's folder or from the working folder, where there is one."""
    if folder is None or not isinstance(file.get("dataset_dir"), str):
        return None
    places = (folder / file.get("dataset_dir") / _INFO, Path(file.get("dataset_dir")) / _INFO)
    return next((place for place in places if place.is_file()), None)


def _read_info(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise DataError("this registry of data sets is larger than 16 MiB", where=str(path))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"this registry of data sets cannot be read as JSON ({error})", where=str(path)) from error
    if not isinstance(found, dict):
        raise DataError("this registry of data sets is no JSON object", where=str(path))
    return found


def _entry(name: str, info: dict[str, Any]) -> dict[str, Any]:
    found = info.get(name)
    return found if isinstance(found, dict) else {}


def _command(name: str, info: dict[str, Any], info_file: Path | None) -> str:
    entry = _entry(name, info)
    hub = entry.get("hf_hub_url")
    if isinstance(hub, str) and (known := prepare_command(hub)) is not None:
        return known
    source = entry.get("file_name")
    if isinstance(source, str) and info_file is not None:
        return f"penchant prepare local --source {info_file.parent / source} --out data/mine"
    return "penchant prepare local --source FILE --out data/mine"


def _differences(name: str, info: dict[str, Any], info_file: Path | None) -> list[str]:
    """What of a data set the reader of rows cannot follow as it stands."""
    if info_file is None:
        return [f"{name}: its entry in {_INFO} was not found; rows with the usual columns are read as they are"]
    if name not in info:
        return [f"{name}: {info_file} has no such entry"]
    entry = _entry(name, info)
    found: list[str] = []
    hub = next(
        (entry[key] for key in ("hf_hub_url", "ms_hub_url", "script_url", "cloud_file_name") if key in entry), None
    )
    if hub is not None and "file_name" not in entry and prepare_command(str(hub)) is None:
        found.append(f"{name}: download {hub} first; `penchant prepare local` reads files")
    for part, known in (("columns", _COLUMNS), ("tags", _TAGS)):
        mapping = entry.get(part)
        for ours, theirs in (mapping if isinstance(mapping, dict) else {}).items():
            if ours not in known:
                found.append(f"{name}: {part}.{ours} is not read")
            elif theirs is not None and theirs not in known[ours]:
                what = "the column" if part == "columns" else "the word"
                found.append(f"{name}: rename {what} {theirs} to {known[ours][0]}")
    return found
