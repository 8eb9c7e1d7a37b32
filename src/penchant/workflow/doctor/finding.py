"""One thing that `penchant doctor` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: What it belongs to, such as "versions".
        name: What it is.
        state: `error` needs mending before Penchant is used; `warning` costs speed, exactness or comfort.
        what: What was found, one line.
        remedy: What to do about it, with the command where there is one; empty when it is ok.
    """

    group: str
    name: str
    state: State
    what: str
    remedy: str = ""
