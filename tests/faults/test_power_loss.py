"""Loss of power: what was not flushed is lost, and a whole checkpoint is there at every moment all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from penchant.data.atomic import tidy, write_text
from penchant.training.checkpoint_folder import drop_others, find_newest, steps_in, write_folder


class Journal:
    """Every move and every flush below a folder, in its order: a shim over the calls of `os`."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.calls: list[tuple[str, Path, Any]] = []
        for name in ("fsync", "rename", "replace"):
            patch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, call: Any) -> Any:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            if name == "fsync":
                path = Path(os.readlink(f"/proc/self/fd/{args[0]}"))
                self.calls.append(("fsync", path, contents(path)))
            else:
                self.calls.append(("move", Path(args[0]), Path(args[1])))
            return result

        return recorded

    def names(self) -> list[tuple[str, ...]]:
        """The calls with short names: what was flushed, what was moved where."""
        short = []
        for kind, *paths in self.calls:
            places = [path for path in paths if isinstance(path, Path)]
            short.append((kind, *(self._short(path) for path in places)))
        return short

    def _short(self, path: Path) -> str:
        parts = path.relative_to(self.root).parts
        return "/".join("TMP" if part.endswith(".tmp") else part for part in parts) or "."


def contents(path: Path) -> Any:
    """What a flush makes durable: the bytes of a file, the names in a folder."""
    return path.read_bytes() if path.is_file() else sorted(os.listdir(path))


def two_files(step: int) -> Any:
    def write(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"A" * step)
        (folder / "state.json").write_text(str(step), encoding="utf-8")

    return write


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    return Journal(tmp_path, monkeypatch)


def test_a_checkpoint_gets_to_the_disk_in_this_order(tmp_path: Path, journal: Journal) -> None:
    """Each file, the manifest after them, the folder; then the name, then the folder that holds the name."""
    write_folder(tmp_path / "step-3", two_files(3))
    assert journal.names() == [
        ("fsync", "TMP/a.bin"),
        ("fsync", "TMP/state.json"),
        ("fsync", "TMP/manifest.json"),
        ("fsync", "TMP"),
        ("move", "TMP", "step-3"),
        ("fsync", "."),
    ]


def test_a_text_gets_to_the_disk_in_this_order(tmp_path: Path, journal: Journal) -> None:
    write_text(tmp_path / "config.yaml", "a: 1\n")
    assert journal.names() == [("fsync", "TMP"), ("move", "TMP", "config.yaml"), ("fsync", ".")]


class Disk:
    """What a loss of power leaves: flushed bytes under flushed names, and nothing else.

    A file has the bytes of its last flush, none if there was none; a folder the names of its last flush. What a
    folder that was not flushed since would show is lost: files written there, and moves into it or out of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[int, dict[str, int]] = {}  # durable: of a folder, what lies under each name
        self.data: dict[int, bytes] = {}  # durable: of a file
        self._now: dict[tuple[int, str], int] = {}  # what lies under which name of which folder at the moment
        self._numbers = count(1)

    def of(self, path: Path) -> int:
        """The number of what lies at a path now; 0 is the folder itself. It keeps it wherever it is moved."""
        if path == self.folder:
            return 0
        return self._now.setdefault((self.of(path.parent), path.name), next(self._numbers))

    def hear(self, call: tuple[str, Path, Any]) -> None:
        """Take in a move or a flush."""
        kind, path, other = call
        if kind == "move":
            moved = self.of(path)
            del self._now[self.of(path.parent), path.name]
            self._now[self.of(other.parent), other.name] = moved
        elif isinstance(other, bytes):
            self.data[self.of(path)] = other
        else:
            self.names[self.of(path)] = {name: self.of(path / name) for name in other}

    def after_loss(self, target: Path) -> Path:
        """Write what is left to a folder."""
        shutil.rmtree(target, ignore_errors=True)
        self._restore(0, target)
        return target

    def _restore(self, folder: int, target: Path) -> None:
        target.mkdir()
        for name, inner in self.names.get(folder, {}).items():
            if name.endswith((".bin", "state.json", "manifest.json")):
                (target / name).write_bytes(self.data.get(inner, b""))
            else:
                self._restore(inner, target / name)


def losses(journal: Journal, target: Path) -> Iterator[tuple[int, Path]]:
    """What a loss of power leaves after each call, with the number of the call."""
    disk = Disk(journal.root)
    for number, call in enumerate(list(journal.calls), start=1):
        disk.hear(call)
        yield number, disk.after_loss(target)


def test_after_a_loss_of_power_at_any_moment_a_whole_checkpoint_is_found(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Three checkpoints, the oldest dropped, the last written twice: from the first rename that is durable on."""
    with pytest.MonkeyPatch.context() as patch:
        journal = Journal(tmp_path, patch)
        marks = []
        for step in (2, 4, 6, 6):
            write_folder(tmp_path / f"step-{step}", two_files(step))
            marks.append((len(journal.calls), step))
            drop_others(tmp_path, set(sorted(steps_in(tmp_path))[-2:]))
    seen = []
    for number, left in losses(journal, tmp_path_factory.mktemp("disk") / "left"):
        tidy(left)
        durable = max((step for calls, step in marks if calls <= number), default=None)
        found = find_newest(left)
        if durable is not None:
            assert found.path is not None, f"nothing is left after call {number}: {journal.names()[number - 1]}"
            assert found.step >= durable
            seen.append(found.step)
        else:
            assert found.path is None
        assert all("torn" not in why for _, why in found.damaged)
    assert set(seen) == {2, 4, 6}


BESIDE = """
import os, sys
from pathlib import Path
from penchant.training.checkpoint_folder import write_folder
def write(folder):
    (folder / "a.bin").write_bytes(b"new" * 9)
os.environ.update(PENCHANT_TEST="1", PENCHANT_FAILPOINTS="folder.old_aside=kill")
write_folder(Path(sys.argv[1]), write)
"""


def test_a_kill_between_the_two_moves_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    """The old one has no name for that moment; the next start gives it back."""
    write_folder(tmp_path / "step-4", two_files(4))
    done = subprocess.run([sys.executable, "-c", BESIDE, str(tmp_path / "step-4")], check=False)
    assert done.returncode == -9
    assert steps_in(tmp_path) == []
    tidy(tmp_path)
    assert find_newest(tmp_path).path == tmp_path / "step-4"
    assert (tmp_path / "step-4" / "state.json").read_text(encoding="utf-8") == "4"
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]
