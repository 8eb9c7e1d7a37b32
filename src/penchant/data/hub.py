"""Preference data from the Hugging Face Hub, always at one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from penchant.data.formats import DataFormat
from penchant.data.rows import BrokenRow, RawRow
from penchant.data.table_records import dataset_records
from penchant.errors import DataError, UsageError, did_you_mean
from penchant.offline import hub_remedy

_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve_revision(data_format: DataFormat, revision: str | None = None) -> str:
    """Return the commit, 40 hexadecimal digits, at which a data set is to be read.

    A commit is returned as it is. The Hub is asked only for what a tag or a branch, or for a format without a
    pinned revision the main branch, stands for at this moment.

    Args:
        data_format: The data set.
        revision: A commit, tag or branch; None for the format's own.

    Raises:
        UsageError: The format has no place on the Hub.
        DataError: The Hub cannot be reached, or knows no such revision.
    """
    _check_hub(data_format)
    wanted = revision or data_format.revision
    if _COMMIT.fullmatch(wanted):
        return wanted
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(data_format.hub, revision=wanted or None).sha
    except Exception as err:
        raise _unreachable(data_format.hub, err) from err
    if not commit:
        raise DataError("the Hub names no commit for it", where=data_format.hub)
    return commit


def load_hub(
    data_format: DataFormat, subset: str | None = None, split: str | None = None, revision: str | None = None
) -> Iterator[RawRow | BrokenRow]:
    """Return an iterator over the rows of a data set on the Hub, memory-mapped after one download.

    Args:
        data_format: The data set.
        subset: One of its subsets; None reads all of them, one after the other.
        split: One of its splits; None reads the first.
        revision: A commit, tag or branch; None for the format's own. See `resolve_revision`.

    Raises:
        UsageError: The format has no place on the Hub, or no such subset or split.
        DataError: It cannot be reached or read; the iterator raises it too.
    """
    _check_hub(data_format)
    subsets = _subsets(data_format, subset)
    name = split or data_format.splits[0]
    if name not in data_format.splits:
        raise UsageError(
            f'{data_format.name} has no split "{name}".{did_you_mean(name, data_format.splits)}',
            fix=f"Known: {', '.join(data_format.splits)}.",
        )
    return _rows(data_format.hub, subsets, name, resolve_revision(data_format, revision))


def _check_hub(data_format: DataFormat) -> None:
    if not data_format.hub:
        raise UsageError(
            f'"{data_format.name}" has no place on the Hub', fix="Give the file or folder with --source FILE."
        )


def _subsets(data_format: DataFormat, subset: str | None) -> tuple[str, ...]:
    if subset is None:
        return data_format.subsets or ("",)
    if subset in data_format.without_pairs:
        raise UsageError(
            f'the subset "{subset}" of {data_format.name} holds no preference pairs',
            fix=f"Choose one of {', '.join(data_format.subsets)}.",
        )
    if not data_format.subsets:
        raise UsageError(f"{data_format.name} has no subsets", fix="Leave --subset out.")
    if subset not in data_format.subsets:
        raise UsageError(
            f'{data_format.name} has no subset "{subset}".{did_you_mean(subset, data_format.subsets)}',
            fix=f"Known: {', '.join(data_format.subsets)}.",
        )
    return (subset,)


def _rows(hub: str, subsets: tuple[str, ...], split: str, commit: str) -> Iterator[RawRow | BrokenRow]:
    import datasets

    for subset in subsets:
        source = f"{hub}@{commit[:12]}/{subset}-{split}" if subset else f"{hub}@{commit[:12]}/{split}"
        try:
            dataset = datasets.load_dataset(hub, data_dir=subset or None, split=split, revision=commit)
        except Exception as err:
            raise _unreachable(hub, err) from err
        for line, record in dataset_records(dataset):
            if isinstance(record, str):
                yield BrokenRow(source, line, record)
            else:
                yield RawRow(source, line, record)


def _unreachable(hub: str, err: Exception) -> DataError:
    """Say that the Hub gave nothing. Its client has many errors of many kinds, and one remedy serves all."""
    first_line = next(iter(str(err).splitlines()), "")[:200]
    return DataError(
        f"cannot be had from the Hub ({type(err).__name__}: {first_line})",
        where=hub,
        fix=hub_remedy(
            "Give a file with --source FILE, or unset it.",
            "Check the connection, or give a file with --source FILE.",
        ),
    )
