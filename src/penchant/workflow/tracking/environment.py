"""The environment in which a tracker's package works: what leaves the machine is what the user's own says."""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from penchant.offline import hub_is_offline
from penchant.workflow.tracking.asked import remote_trackio

_QUIET = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}
_WANDB = "https://api.wandb.ai"


def tracker_environment(tracker: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the process that sends to a tracker.

    Args:
        tracker: Its name.
        variables: Those of this process.
    """
    own = {**variables, **_QUIET}
    if not (tracker == "trackio" and remote_trackio(variables)):
        own["HF_HUB_OFFLINE"] = "1"  # else trackio asks the Hub for the name of a user who is logged in
    if tracker == "wandb":
        own["WANDB_MODE"] = "offline" if wandb_is_offline(variables) else "online"
    return own


def wandb_is_offline(variables: Mapping[str, str]) -> bool:
    """Return whether W&B is to write to the disk alone: told so, no key, or HF_HUB_OFFLINE set."""
    told = variables.get("WANDB_MODE", "").lower()
    return told in ("offline", "dryrun") or hub_is_offline(variables) or not _has_key(variables)


def _has_key(variables: Mapping[str, str]) -> bool:
    if variables.get("WANDB_API_KEY"):
        return True
    host = urlsplit(variables.get("WANDB_BASE_URL") or _WANDB).hostname or ""
    path = variables.get("NETRC") or str(Path(variables.get("HOME") or Path.home()) / ".netrc")
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
