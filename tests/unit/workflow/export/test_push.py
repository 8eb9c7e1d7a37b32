"""What goes to the Hub: never unasked, private unless asked, one commit, nothing that is no part of an export."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled
from tests.gguf_models import save_gguf_model

from penchant.errors import PenchantError, UsageError
from penchant.workflow.export import push as push_module
from penchant.workflow.export.export import Asked, export
from penchant.workflow.export.push import Push, asked_push, files_to_push, push_folder


class FakeHub:
    """Remembers what it was asked for."""

    def __init__(self, *, private: bool = True, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._private, self._error = private, error

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        self.calls.append(("create", (repo_id, private, exist_ok)))
        if self._error:
            raise self._error
        return f"https://hub.invalid/{repo_id}"

    def repo_info(self, repo_id: str) -> Any:
        return SimpleNamespace(private=self._private)

    def create_commit(self, repo_id: str, operations: Any, *, commit_message: str) -> None:
        self.calls.append(("commit", [operation.path_in_repo for operation in operations]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("README.md", "proof.json", "Modelfile", "a.gguf", "chat_template.jinja"):
        (out / name).write_text("text")
    return out


def test_one_private_commit_of_all_files(folder: Path) -> None:
    hub = FakeHub()
    assert push_folder(folder, Push("me/model"), hub=hub) == "https://hub.invalid/me/model"
    assert hub.calls == [
        ("create", ("me/model", True, True)),
        ("commit", ["Modelfile", "README.md", "a.gguf", "chat_template.jinja", "proof.json"]),
    ]
    public = FakeHub(private=False)
    push_folder(folder, Push("me/model", public=True), hub=public)
    assert public.calls[0] == ("create", ("me/model", False, True))


def test_nothing_private_goes_to_a_public_place(folder: Path) -> None:
    hub = FakeHub(private=False)
    with pytest.raises(UsageError, match="public already"):
        push_folder(folder, Push("me/model"), hub=hub)
    assert [name for name, _ in hub.calls] == ["create"]


@pytest.mark.parametrize(
    "name",
    [".env", "optimizer.safetensors", "a.pt", "secrets.json", "id_rsa", "rng_state.json", "notes.py", "key.pem"],
)
def test_what_is_no_part_of_an_export_stops_it(folder: Path, name: str) -> None:
    (folder / name).write_text("text")
    hub = FakeHub()
    with pytest.raises(UsageError, match="no part of an export"):
        push_folder(folder, Push("me/model"), hub=hub)
    assert hub.calls == []


def test_links_and_folders_stop_it(folder: Path) -> None:
    (folder / "more.json").symlink_to("/etc/hostname")
    with pytest.raises(UsageError):
        files_to_push(folder)
    (folder / "more.json").unlink()
    (folder / "checkpoints").mkdir()
    with pytest.raises(UsageError):
        files_to_push(folder)


def test_the_hub_out_of_reach_is_explained(folder: Path) -> None:
    for error in (OSError("no route"), OfflineModeIsEnabled("offline")):
        with pytest.raises(PenchantError, match="export itself is whole"):
            push_folder(folder, Push("me/model"), hub=FakeHub(error=error))


def test_before_any_work_it_is_known_whether_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE"):
        asked_push("me/model", public=False, dry_run=False)
    assert asked_push("me/model", public=True, dry_run=True) == Push("me/model", True, True)
    assert asked_push(None, public=False, dry_run=False) is None
    for name in ("model", "a/b/c", "../x", "me/a b", "me/x--y", "https://x/y"):
        with pytest.raises(UsageError, match="no name of a repository"):
            asked_push(name, public=False, dry_run=True)
    with pytest.raises(UsageError, match="goes with --push"):
        asked_push(None, public=True, dry_run=False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UsageError, match="logged in"):
        asked_push("me/model", public=False, dry_run=False)


def test_a_proven_export_is_pushed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = save_gguf_model(tmp_path / "tiny"), tmp_path / "out"
    found = export(Asked(model, "hf", out=out, push="me/model", dry_run=True, pairs=1))
    assert found["push"]["address"] is None
    assert "model.safetensors" in found["push"]["files"]
    sent: list[list[str]] = []

    def send(folder: Path, push: Push) -> str:
        sent.append([path.name for path in files_to_push(folder)])
        return "address"

    monkeypatch.setattr(push_module, "_check_reachable", lambda: None)
    monkeypatch.setattr("penchant.workflow.export.export.push_folder", send)
    before = (out / "proof.json").stat().st_ino
    assert export(Asked(model, "hf", out=out, push="me/model"))["push"]["address"] == "address"
    assert (out / "proof.json").stat().st_ino == before
    assert sent == [found["push"]["files"]]
    (out / "README.md").write_text("other")
    with pytest.raises(UsageError, match="no longer what was proven"):
        export(Asked(model, "hf", out=out, push="me/model"))
    assert len(sent) == 1
