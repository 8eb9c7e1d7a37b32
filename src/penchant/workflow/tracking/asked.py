"""Which trackers are asked for, and whether they can be had; checked before a run begins."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from penchant.errors import UsageError, did_you_mean
from penchant.offline import hub_is_offline

TRACKERS = ("trackio", "tensorboard", "wandb")
_WHERE = "--track"


def trackers_of(words: Iterable[str], *, where: str = _WHERE) -> tuple[str, ...]:
    """Return the trackers that words name, each once, and check that they can be had.

    Args:
        words: Names, or lists of names with commas.
        where: What errors call the option.

    Raises:
        UsageError: There is no such tracker, its package is missing, or it would reach the Hub that must not be.
    """
    names = [name.strip().lower() for word in words for name in word.split(",") if name.strip()]
    asked = tuple(dict.fromkeys(names))
    for name in asked:
        if name not in TRACKERS:
            raise UsageError(f'there is no tracker "{name}".{did_you_mean(name, TRACKERS)}', where=where)
    for name in asked:
        _require(name, where)
    return asked


def _require(name: str, where: str) -> None:
    # a folder called wandb in the working directory is found as a package, but there is no code in it
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise UsageError(f"{name} is not installed", where=where, fix='pip install "penchant[track]"')
    if name == "wandb" and os.environ.get("WANDB_MODE", "").lower() == "disabled":
        raise UsageError("WANDB_MODE=disabled is set", where=where, fix="Unset it, or leave wandb out.")
    if name == "trackio" and (variable := remote_trackio(os.environ)) and hub_is_offline():
        raise UsageError(
            f"{variable} sends trackio's figures away from this machine, and HF_HUB_OFFLINE is set",
            where=where,
            fix=f"Unset {variable} to keep them here, or HF_HUB_OFFLINE to send them.",
        )


def remote_trackio(variables: Mapping[str, str]) -> str:
    """Return the variable by which trackio would log to another machine; "" when it logs to this one alone."""
    if variables.get("TRACKIO_SPACE_ID"):
        return "TRACKIO_SPACE_ID"
    server = variables.get("TRACKIO_SERVER_URL", "")
    host = urlsplit(server).hostname or ""
    here = host in ("localhost", "::1") or host.startswith("127.")
    return "TRACKIO_SERVER_URL" if server and not here else ""
