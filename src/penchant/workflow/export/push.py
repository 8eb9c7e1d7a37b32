"""An export to the Hugging Face Hub: private unless asked, one commit, and never a file that is not part of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from penchant.errors import PenchantError, UsageError
from penchant.offline import hub_is_offline

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SUFFIXES = (".safetensors", ".gguf", ".json", ".jinja", ".md", ".txt", ".model")
_PLAIN_NAMES = ("Modelfile",)
_NEVER = re.compile(
    r"(^|[._-])(optimizer|optim|scheduler|rng|training_args|secret|secrets|credential|credentials|password|id_rsa)"
    r"([._-]|$)|^\.|\.(pt|pth|bin|pkl|pem|key|env)$",
    re.IGNORECASE,
)


class Hub(Protocol):
    """What of `huggingface_hub.HfApi` is used."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        """Make a model repository, if it is not there."""
        ...

    def repo_info(self, repo_id: str) -> Any:
        """Tell about it."""
        ...

    def create_commit(self, repo_id: str, operations: Sequence[Any], *, commit_message: str) -> Any:
        """Add files."""
        ...


@dataclass(frozen=True)
class Push:
    """Where an export is to go.

    Attributes:
        repository: USER/NAME.
        public: Whether everybody may read it.
        dry_run: Whether only the list of files is wanted.
    """

    repository: str
    public: bool = False
    dry_run: bool = False


def asked_push(repository: str | None, *, public: bool, dry_run: bool) -> Push | None:
    """Return what was asked for, checked before any work; None when nothing is to be pushed.

    Raises:
        UsageError: The name is none, options are left over, the network is forbidden, or nobody is logged in.
    """
    if repository is None:
        if public or dry_run:
            raise UsageError("goes with --push USER/NAME", where="--public" if public else "--dry-run")
        return None
    if not _NAME.fullmatch(repository) or ".." in repository or "--" in repository:
        raise UsageError(f"{repository[:100]!r} is no name of a repository", where="--push", fix="Give USER/NAME.")
    push = Push(repository, public, dry_run)
    if not dry_run:
        _check_reachable()
    return push


def _check_reachable() -> None:
    from huggingface_hub import get_token

    if hub_is_offline():
        raise UsageError(
            "HF_HUB_OFFLINE is set: nothing is sent",
            where="--push",
            fix="Unset it, or push the folder later: hf upload USER/NAME FOLDER.",
        )
    if get_token() is None:
        raise UsageError("nobody is logged in to the Hub", where="--push", fix="Log in with: hf auth login.")


def files_to_push(folder: Path) -> list[Path]:
    """Return an export's files, sorted.

    Raises:
        UsageError: Something there is no part of an export: another kind of file, a folder or a link, or a name
            that looks like optimizer state or a secret.
    """
    found = sorted(folder.iterdir())
    for path in found:
        known = path.suffix in _SUFFIXES or path.name in _PLAIN_NAMES
        if path.is_symlink() or not path.is_file() or not known or _NEVER.search(path.name):
            raise UsageError(
                f"{path.name[:100]!r} is no part of an export, so nothing is pushed",
                where=str(folder),
                fix="Move it away, or export again with --overwrite.",
            )
    return found


def push_folder(folder: Path, push: Push, *, hub: Hub | None = None) -> str:
    """Send an export in one commit; return the repository's address.

    Raises:
        UsageError: See `files_to_push`; or the repository is public already and that was not asked for.
        PenchantError: The Hub cannot be reached, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    files = files_to_push(folder)
    api: Any = HfApi() if hub is None else hub
    operations = [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=str(path)) for path in files]
    try:
        address = api.create_repo(push.repository, private=not push.public, exist_ok=True)
        if not push.public and api.repo_info(push.repository).private is False:
            raise UsageError(
                "this repository is public already, so what is pushed there is public",
                where=push.repository,
                fix="Give --public if that is meant, or another name.",
            )
        api.create_commit(push.repository, operations, commit_message="Export by Penchant, with its proof")
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        first = str(error).strip().splitlines()
        raise PenchantError(
            f"the Hub did not take it ({(first or [type(error).__name__])[0][:200]})",
            where=push.repository,
            fix=f"The export itself is whole: {folder}. Push it again with the same command.",
        ) from error
    return str(address)
