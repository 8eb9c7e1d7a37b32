"""What takes long to make from figures: kept while they stay the same, and made anew with restraint."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

Made = TypeVar("Made")

_REST = 10  # what changes all the time takes at most a tenth of it


class Kept(Generic[Made]):
    """Keeps results by what they were made from, so that none is made twice; for any thread.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock, self._making = Lock(), Lock()
        self._kept: OrderedDict[str, tuple[str, Made, float]] = OrderedDict()

    def get(self, name: str, version: str, make: Callable[[], Made], *, hurry: bool = True) -> tuple[str, Made]:
        """Return a result and the version that it is of.

        Args:
            name: Of the result.
            version: Of what it is made from.
            make: Makes it.
            hurry: Otherwise an older result does until ten times what making it took has passed.
        """
        found = self._known(name, version, hurry)
        if found:
            return found
        with self._making:  # who asks for the same meanwhile waits for it instead of making it, too
            found = self._known(name, version, hurry)
            if found:
                return found
            began = monotonic()
            made = make()
            ended = monotonic()
            with self._lock:
                self._kept[name] = (version, made, ended + _REST * (ended - began))
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return version, made

    def _known(self, name: str, version: str, hurry: bool) -> tuple[str, Made] | None:
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or (kept[0] != version and (hurry or monotonic() >= kept[2])):
                return None
            self._kept.move_to_end(name)
            return kept[0], kept[1]
