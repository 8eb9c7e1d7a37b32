"""Reading a file that grows: every whole line once, whatever its writer does in between."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.web import line_tail
from penchant.web.line_tail import LineTail, last_object, object_of


def texts(tail: LineTail) -> tuple[bool, list[bytes]]:
    anew, found = False, []
    for changed, lines in tail.read_all():
        anew = anew or changed
        found += [line.text for line in lines]
    return anew, found


@settings(max_examples=40)
@given(
    lines=st.lists(st.binary(max_size=6).map(lambda raw: raw.replace(b"\n", b"x")), max_size=8),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    block=st.integers(1, 9),
)
def test_lines_come_once_each_however_they_were_written(lines: list[bytes], cuts: list[int], block: int) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(line_tail, "_BLOCK", block)
        path = Path(folder) / "log"
        tail, found, places = LineTail(path), [], []
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True):
            with path.open("ab") as file:
                file.write(whole[begin:end])
            for anew, read in tail.read_all():
                assert not anew
                found += [line.text for line in read]
                places += [line.start for line in read]
        assert found == lines
        assert [whole[place : place + len(line)] for place, line in zip(places, lines, strict=True)] == lines


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = LineTail(path)
    assert texts(tail) == (False, [])
    path.write_bytes(b'{"a": 1}\n{"a"')
    assert texts(tail) == (False, [b'{"a": 1}'])
    assert texts(tail) == (False, [])
    with path.open("ab") as file:
        file.write(b": 2}\n")
    assert texts(tail) == (False, [b'{"a": 2}'])


def test_another_file_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    tail = LineTail(path)
    texts(tail)
    (tmp_path / "new").write_bytes(b"one\n")
    os.replace(tmp_path / "new", path)
    assert texts(tail) == (True, [b"one"])
    with path.open("r+b") as file:  # cut and written over in place, longer than before
        file.truncate(0)
        file.write(b"six\nseven\n")
    assert texts(tail) == (True, [b"six", b"seven"])
    path.unlink()
    assert texts(tail) == (True, [])


def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    assert texts(LineTail(tmp_path / "log")) == (False, [])
    assert last_object(tmp_path / "log") is None


def test_the_last_object_is_found_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_object(path) is None
    path.write_bytes(b'{"step": 1}\n' * 9000 + b'{"step": 2}\n[1]\nnonsense\n{"step": 3')
    assert last_object(path) == {"step": 2}
    assert object_of(b"[" * 100_000) is None
