"""Rows of a preference data set as TRL reads them, on their way to Penchant's reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, cast

from penchant.errors import DataError, UsageError
from penchant.types import ROLES

_NOT_READ = ("image", "images", "tools", "chat_template_kwargs")
_OF_A_MESSAGE = ("role", "content", "tool_calls")


class PreferenceRows:
    """The rows of a data set, each with prompt, chosen and rejected as messages; bare text is one turn.

    Args:
        dataset: A `datasets.Dataset`, or a list of mappings.
        name: What errors call it.

    Attributes:
        text: Whether the first row, and so each of them, is bare text.

    Raises:
        UsageError: It is streamed, or several data sets.
        DataError: There is no row, or the first one holds no pair.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        if isinstance(dataset, Mapping | str) or not isinstance(dataset, Iterable):
            raise UsageError(
                f"it is a {type(dataset).__name__}, not a data set",
                where=name,
                fix='Of several splits give one: dataset["train"].',
            )
        if not isinstance(dataset, Sized):
            raise UsageError(
                f"a {type(dataset).__name__} is streamed, and data is read whole here",
                where=name,
                fix="Load it without streaming, or give Dataset.from_list(list(dataset.take(1000))).",
            )
        self._dataset, self._name = dataset, name
        first = next(iter(self), None)
        if first is None:
            raise DataError("there are no rows", where=name)
        self.text = isinstance(_raw(next(iter(dataset)), "chosen", name), str)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(cast(Sized, self._dataset))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield rows with an id, prompt, chosen and rejected.

        Raises:
            DataError: One holds no pair, or what a template would need and is not read here.
        """
        for number, row in enumerate(self._dataset):
            yield {"id": f"row-{number}", **_canonical(row, f"{self._name}, row {number}")}


def _canonical(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    for column in _NOT_READ:
        if row.get(column):
            raise DataError(f'column "{column}" is not read here', where=where, fix="Leave it out.")
    chosen, rejected = _raw(row, "chosen", where), _raw(row, "rejected", where)
    prompt = row["prompt"] if "prompt" in row else None
    if prompt is None:
        prompt, chosen, rejected = _extracted(chosen, rejected)
    if len({isinstance(part, str) for part in (prompt, chosen, rejected)}) > 1:
        raise DataError("prompt, chosen and rejected are not all text, or all messages", where=where)
    if isinstance(prompt, str):
        return {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
    parts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {name: [_message(message, where) for message in messages] for name, messages in parts.items()}


def _raw(row: Mapping[str, Any], column: str, where: str) -> Any:
    value = row.get(column) if isinstance(row, Mapping) else None
    if not isinstance(value, str | list):
        raise DataError(
            f'column "{column}" is neither text nor messages',
            where=where,
            fix="A preference data set has chosen and rejected, and a prompt or none.",
        )
    return value


def _extracted(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """Prompt and sides of two that begin alike, parted where they differ first; of text before a space there."""
    most = min(len(chosen), len(rejected))
    place = next((index for index in range(most) if chosen[index] != rejected[index]), max(0, most - 1))
    if 0 < place < most and chosen[place] != rejected[place] and chosen[place - 1] == " ":
        place -= 1
    return chosen[:place], chosen[place:], rejected[place:]


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise DataError("a message is no mapping of role and content", where=where)
    values = {name: value for name, value in message.items() if value is not None}
    for name in values:
        if name not in _OF_A_MESSAGE:
            raise DataError(f'"{name}" of a message is not read here, and a template might print it', where=where)
    if values.get("role") not in ROLES or not isinstance(values.get("content", ""), str):
        raise DataError(
            f"a message of role {values.get('role')!r} with a content that is no text is not read here",
            where=where,
            fix=f"Roles are {', '.join(ROLES)}; content is text.",
        )
    return values
