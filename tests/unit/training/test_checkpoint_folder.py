"""A folder is whole or not there, damage is named, and what order things get to the disk in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from penchant.data.atomic import tidy
from penchant.errors import DiskError, ModelError
from penchant.training import checkpoint_folder
from penchant.training.checkpoint_folder import (
    Found,
    begin,
    damage_of,
    drop_others,
    find_newest,
    seal,
    set_aside,
    steps_in,
    write_folder,
)

FILES = {"a.bin": b"A" * 100, "b.bin": b"B" * 100}
DEAD = 2**22 + 1  # above the largest number that a process can have


def made(folder: Path, *steps: int, kind: str = "step") -> Path:
    """Checkpoints of two files that differ from step to step."""
    for step in steps:

        def write(unfinished: Path, step: int = step) -> None:
            for name, data in FILES.items():
                (unfinished / name).write_bytes(data + str(step).encode())

        write_folder(folder / f"{kind}-{step}", write)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


DAMAGE = {
    "torn": (lambda path: (path / "a.bin").write_bytes(b"A" * 50), "a.bin has 50 bytes, not 101"),
    "longer": (lambda path: (path / "a.bin").write_bytes(b"A" * 102), "a.bin has 102 bytes, not 101"),
    "flipped": (lambda path: flip(path / "a.bin"), "a.bin has another SHA-256"),
    "missing": (lambda path: (path / "b.bin").unlink(), "b.bin is missing"),
    "swapped": (lambda path: swap(path / "a.bin", path / "b.bin"), "a.bin has another SHA-256"),
    "stray": (lambda path: (path / "c.bin").write_bytes(b""), "c.bin is not in the manifest"),
    "stray below": (lambda path: ((path / "d").mkdir(), (path / "d/e").touch()), "d/e is not in the manifest"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
    "torn manifest": (lambda path: (path / "manifest.json").write_text('{"format'), "manifest.json is torn"),
    "other manifest": (lambda path: (path / "manifest.json").write_text("[]"), "manifest.json is torn"),
    "moved": (lambda path: (shutil.rmtree(path), shutil.copytree(path.with_name("step-4"), path)), "step-4"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_stepped_over(tmp_path: Path, kind: str) -> None:
    """The file and what is wrong with it; the one before is taken, and the damaged one loses its name."""
    folder = made(tmp_path, 4, 6)
    assert find_newest(folder) == Found(folder / "step-6")
    damage, reason = DAMAGE[kind]
    damage(folder / "step-6")
    found = find_newest(folder)
    assert found.path == folder / "step-4"
    assert found.step == 4
    [(path, why)] = found.damaged
    assert path == folder / "step-6"
    assert reason in why
    assert found.warnings() == [f"step-6 is damaged ({why}); stepping back to step-4"]
    assert names(folder) == {"step-4", "step-6"}  # looking changes nothing
    set_aside(found)
    assert names(folder) == {"step-4", "damaged-step-6"}
    assert find_newest(folder) == Found(folder / "step-4")


def test_what_is_damaged_twice_is_kept_twice(tmp_path: Path) -> None:
    for _ in range(2):
        folder = made(tmp_path, 4, 6)
        flip(folder / "step-6" / "b.bin")
        set_aside(find_newest(folder))
    assert names(tmp_path) == {"step-4", "damaged-step-6", "damaged-step-6-2"}


def test_when_all_are_damaged_each_is_named_with_its_reason(tmp_path: Path) -> None:
    """Also when the newer one was set aside before: never a silent start from nothing."""
    folder = made(tmp_path, 4, 6)
    flip(folder / "step-6" / "b.bin")
    set_aside(find_newest(folder))
    (folder / "step-4" / "a.bin").unlink()
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            find_newest(folder)
        assert caught.value.exit_code == 4
        assert "step-4: a.bin is missing" in str(caught.value)
        assert "damaged-step-6: set aside before" in str(caught.value)
    shutil.rmtree(folder / "step-4")
    with pytest.raises(ModelError, match="damaged-step-6"):
        find_newest(folder)


def test_a_file_that_must_be_there_is_missing_although_the_manifest_does_not_list_it(tmp_path: Path) -> None:
    folder = made(tmp_path, 4)
    assert damage_of(folder / "step-4", {"a.bin"}) == ""
    assert damage_of(folder / "step-4", {"z.bin"}) == "z.bin is missing"


def test_another_format_is_not_read(tmp_path: Path) -> None:
    manifest = made(tmp_path, 4) / "step-4" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 2}))
    assert damage_of(tmp_path / "step-4") == "manifest.json is of format 2, and this version reads 1"


def test_times_of_files_mean_nothing(tmp_path: Path) -> None:
    """With the clock set back between them, and with every time reversed, the highest number is the newest."""
    folder = made(tmp_path, 2, 9, 10)
    for age, step in enumerate((2, 9, 10)):
        for path in (*(folder / f"step-{step}").iterdir(), folder / f"step-{step}"):
            os.utime(path, (10**9 - 10**6 * age, 10**9))
    assert find_newest(folder).path == folder / "step-10"
    drop_others(folder, set(sorted(steps_in(folder))[-2:]))
    assert names(folder) == {"step-9", "step-10"}


def test_a_folder_that_is_there_stays_until_the_new_one_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the new one cannot get the name, the old one has it again, untouched."""
    folder = made(tmp_path, 4)
    before = (folder / "step-4" / "a.bin").read_bytes()
    replace, calls = os.replace, []

    def second_fails(*names: Path) -> None:
        calls.append(names)
        if len(calls) == 2:
            raise OSError(5, "broken")
        replace(*names)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(DiskError, match="broken"):
        made(folder, 4)
    assert len(calls) == 3
    assert names(folder) == {"step-4"}
    assert (folder / "step-4" / "a.bin").read_bytes() == before
    assert damage_of(folder / "step-4") == ""


def test_what_cannot_be_read_back_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that lies: the older one stays, and the caller never comes to remove it."""
    folder = made(tmp_path, 4)
    flush = checkpoint_folder.flush

    def lying(path: Path) -> None:
        flush(path)
        if path.name == "manifest.json":
            flip(path.with_name("b.bin"))

    monkeypatch.setattr(checkpoint_folder, "flush", lying)
    with pytest.raises(DiskError, match=r"cannot be read back: b.bin has another SHA-256"):
        made(folder, 6)
    assert damage_of(folder / "step-4") == ""


def test_too_little_room_is_said_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 1, 99))
    with pytest.raises(DiskError, match="are to be written"):
        write_folder(tmp_path / "step-4", lambda _: pytest.fail("it was begun"), needed_bytes=100)
    assert names(tmp_path) == set()
    write_folder(tmp_path / "step-4", lambda _: None, needed_bytes=99)
    assert names(tmp_path) == {"step-4"}


def test_several_writers_share_a_folder_that_one_of_them_seals(tmp_path: Path) -> None:
    """Subfolders included; nobody finds it before it is sealed."""
    unfinished = begin(tmp_path / "step-4")
    code = "import sys, pathlib; path = pathlib.Path(sys.argv[1], 'rank-1'); path.mkdir(); (path / 'w').touch()"
    subprocess.run([sys.executable, "-c", code, str(unfinished)], check=True)
    (unfinished / "rank-0.bin").write_bytes(b"0")
    assert find_newest(tmp_path) == Found(None)
    seal(unfinished, tmp_path / "step-4")
    assert find_newest(tmp_path, {"rank-0.bin", "rank-1/w"}).path == tmp_path / "step-4"
    (tmp_path / "step-4" / "rank-1" / "w").unlink()
    assert damage_of(tmp_path / "step-4") == "rank-1/w is missing"


def test_what_dead_writers_left_is_removed_and_that_of_living_ones_stays(tmp_path: Path) -> None:
    """A checkpoint that was only moved aside gets its name back, unless the new one has it."""
    folder = made(tmp_path, 4, 6)
    os.replace(folder / "step-4", folder / f".step-4.{DEAD}.00000000.old")
    shutil.copytree(folder / "step-6", folder / f".step-6.{DEAD}.00000000.old")
    (folder / f".step-8.{DEAD}.00000000.tmp").mkdir()
    (folder / f".config.yaml.{DEAD}.00000000.tmp").touch()
    alive = folder / f".step-8.{os.getppid()}.00000000.tmp"
    alive.mkdir()
    (folder / ".nfs0001").touch()
    tidy(folder)
    assert names(folder) == {"step-4", "step-6", alive.name, ".nfs0001"}
    assert damage_of(folder / "step-4") == ""


def test_one_that_cannot_be_removed_does_not_save_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, 2, 4, 6, 8)
    replace = os.replace

    def stubborn(source: Path, target: Path) -> None:
        if source.name == "step-2":
            raise PermissionError(1, "no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", stubborn)
    drop_others(folder, {6, 8})
    assert names(folder) == {"step-2", "step-6", "step-8"}


def test_only_names_that_it_gave_are_steps(tmp_path: Path) -> None:
    """Neither hidden folders, nor damaged ones, nor another spelling of a number that would count twice."""
    for name in ("step-4", "step-04", "step-x", "step-", "damaged-step-6", ".step-8.1.00000000.tmp", "best-9"):
        (tmp_path / name).mkdir()
    assert steps_in(tmp_path) == [4]
    assert steps_in(tmp_path, "best") == [9]


def test_the_protocol_needs_no_torch() -> None:
    program = "import sys, penchant.training.checkpoint_folder; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
