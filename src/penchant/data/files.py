"""Which file a path stands for.

A folder stands for one file in it. With a split, that is the file called after it (`train` picks `train.jsonl`,
`train.parquet`, ...); without one, the folder must hold a single data file. Anything else is an error that lists
the choice: a file is never picked by a guess.
"""

from __future__ import annotations

import json
from pathlib import Path

from penchant.errors import DataError, UsageError, did_you_mean, nearest

SPLIT_FILES = ("train", "validation", "test")
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")

_BESIDE_PAIRS = ("card.json", "ledger.parquet")  # what Penchant writes next to the pairs of a prepared folder


def suffix_of(name: str) -> str:
    """Return the format suffix that ends a file's name, as it is written there, or ''."""
    lower = name.lower()
    known = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")
    return name[len(name) - len(known) :]


def stem_of(source: str) -> str:
    """Return the last part of a path or source without its format suffix."""
    name = source.rpartition("/")[2]
    return name.removesuffix(suffix_of(name))


def is_saved_dataset(path: Path) -> bool:
    """Return whether `path` is a folder that the `datasets` library saved."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def split_names(folder: Path) -> list[str]:
    """Return the splits that a folder has files for, or that a saved data set lists; [] when it has none.

    Raises:
        DataError: The list of a saved data set cannot be read.
    """
    listed = folder / "dataset_dict.json"
    if listed.is_file():
        try:
            found = json.loads(listed.read_text(encoding="utf-8"))["splits"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "this does not list the splits of a saved data set", where=listed.as_posix()
            ) from error
        return [str(name) for name in found]
    stems = {stem_of(file.name) for file in _data_files(folder)}
    return [name for name in SPLIT_FILES if name in stems]


def find_file(path: Path, split: str | None) -> Path:
    """Return the data file that a path and a split stand for.

    Raises:
        DataError: It is missing, of an unknown format, or not the only candidate.
        UsageError: A split beside a file.
    """
    if path.is_dir():
        return _pick_from_folder(path, split)
    if not path.exists():
        raise _missing(path)
    if split is not None:
        raise UsageError(
            f'the split "{split}" picks a file from a folder, and this is a file',
            where=path.as_posix(),
            fix="Give the folder, or leave the split out.",
        )
    if not suffix_of(path.name):
        raise DataError("unknown format", where=path.as_posix(), fix=f"Files can end in {', '.join(SUFFIXES)}.")
    return path


def near_folder(path: Path, holding: str) -> str:
    """Return ' Did you mean "FOLDER"?' for the nearest folder beside `path` with a file of that name in it.

    The result is empty when there is none.
    """
    try:
        names = [entry.name for entry in path.parent.iterdir() if (entry / holding).is_file()]
    except OSError:
        return ""
    near = nearest(path.name, names)
    return f' Did you mean "{path.with_name(near)}"?' if near else ""


def _missing(path: Path) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        return DataError("no such file; its folder does not exist either", where=path.as_posix())
    names = [entry.name for entry in _data_files(folder)]
    names += [entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry)]
    return DataError(f"no such file or folder.{did_you_mean(path.name, names)}", where=path.as_posix())


def _data_files(folder: Path) -> list[Path]:
    found = (entry for entry in folder.iterdir() if entry.is_file() and suffix_of(entry.name))
    return sorted(entry for entry in found if not _is_hidden(entry) and entry.name not in _BESIDE_PAIRS)


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".")


def _pick_from_folder(folder: Path, split: str | None) -> Path:
    files = _data_files(folder)
    if not files:
        raise DataError(
            "the folder holds no data file",
            where=folder.as_posix(),
            fix=f"Files can end in {', '.join(SUFFIXES)}.",
        )
    if split is not None:
        splits = {stem_of(file.name) for file in files}
        if split not in splits:
            raise DataError(
                f'no data file for the split "{split}".{did_you_mean(split, splits)}', where=folder.as_posix()
            )
        files = [file for file in files if stem_of(file.name) == split]
    if len(files) > 1:
        raise DataError(
            f"several data files: {', '.join(file.name for file in files)}",
            where=folder.as_posix(),
            fix="Name the file itself, or choose one by a split.",
        )
    return files[0]
