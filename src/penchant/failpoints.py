"""Named points at which a test makes this process fail, to see what is left behind.

    PENCHANT_TEST=1 PENCHANT_FAILPOINTS=checkpoint.file_written=kill@3 penchant train ...

kills the process when it comes to that point for the third time (`@3+`: then, and always after; without a number:
always). Without both variables a point does nothing. Every point is the literal argument of a call of `failpoint`;
a test finds all of them and dies at each.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable

from penchant.errors import UsageError, did_you_mean

_SLEEP_SECONDS = 0.2

_hits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Do at this point what a test asked for; nothing when no test did.

    Raises:
        OSError: The action `enospc` (no space left) or `oserror` (an input or output error).
        UsageError: The variable names no action, or is not `point=action@hit`.
    """
    asked = os.environ.get("PENCHANT_FAILPOINTS")
    if not asked or os.environ.get("PENCHANT_TEST") != "1":
        return
    _hits[name] += 1
    for entry in asked.split(","):
        point, _, what = entry.partition("=")
        action, _, hit = (what if "@" in what else f"{what}@1+").partition("@")
        if action not in _ACTIONS or not hit.removesuffix("+").isdigit():
            raise UsageError(
                f"{entry}: write point=action or point=action@hit.{did_you_mean(action, _ACTIONS)}",
                where="PENCHANT_FAILPOINTS",
            )
        first = int(hit.removesuffix("+"))
        if point == name and (_hits[name] == first or (hit.endswith("+") and _hits[name] > first)):
            _ACTIONS[action]()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _broken() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _sleep() -> None:
    time.sleep(_SLEEP_SECONDS)


_ACTIONS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "enospc": _no_space,
    "oserror": _broken,
    "sleep": _sleep,
}
